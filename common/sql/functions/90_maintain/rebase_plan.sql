-- rebase_plan: does this database need a rebase, why, and of which kind? own_rows: the rows are the very ones that were
-- written here (the ticks stay); otherwise they were restored from a dump (ticks and rows are translated).
-- Callers: pgq_admin, the rebase. Locks: none.
create or replace function tidemill.rebase_plan(
    out needed boolean, out reason text, out own_rows boolean, out epoch bigint, out server text,
    out old_system_identifier bigint, out old_database_oid bigint)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform tidemill.require_read_committed('a rebase');
    select i.epoch + 1, i.system_identifier, i.database_oid::bigint
    into epoch, old_system_identifier, old_database_oid from tidemill.identity i;
    select concat_ws('/', s.system_identifier, s.database_oid, s.timeline) into server from tidemill.this_server() s;
    own_rows := tidemill.has_own_rows();
    needed := false;
    begin
        perform tidemill.require_identity();
    exception when sqlstate 'TM003' then
        needed := true;
        reason := substr(sqlerrm, length('NeedsRebase: ') + 1);
    end;
end
$$;
