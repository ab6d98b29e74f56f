-- Function: tidemill.prune_moved(keep_s, limit)
--
--   Destination side: forgets where events came from that were moved more than keep_s seconds ago.
--
-- Returns: rows deleted, at most limit; repeat while it returns limit
-- Who: tidemill_mover. Locks: the rows deleted.
create or replace function tidemill.prune_moved(i_keep_s int4, i_limit int4)
returns int4
language plpgsql
volatile
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_rows int4;
begin
    -- Rows lie in order of time: the BRIN index leads to the old ones.
    delete from tidemill.moved m
     where m.ctid = any (array(select d.ctid from tidemill.moved d
                                where d.moved_at < clock_timestamp() - i_keep_s * interval '1 second'
                                limit i_limit for update skip locked));
    get diagnostics v_rows = row_count;
    return v_rows;
end;
$$;
