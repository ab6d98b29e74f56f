-- Function: tidemill.release_mover_lease(mover, holder)
--
--   Destination side: ends the holder's term now, so that a mover standing by need not wait for it.
--
-- Returns: whether the holder had the lease
-- Who: tidemill_mover, when it stops. Locks: the lease row.
create or replace function tidemill.release_mover_lease(i_mover text, i_holder uuid)
returns bool
language plpgsql
volatile
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
begin
    update tidemill.mover_lease l set until = '-infinity' where l.mover = i_mover and l.holder = i_holder;
    return found;
end;
$$;
