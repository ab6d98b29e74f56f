-- require_identity: refuse (TM003) when the stored ticks were made in another cluster or another database: their
-- transaction ids mean nothing here, and batches between them would silently miss events.
-- Callers: every tick, rotation, registration. Locks: none.
create or replace function tidemill.require_identity()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    r record;
begin
    select i.system_identifier = c.system_identifier and i.database_oid = d.oid as same,
           i.system_identifier as old_system, i.database_oid as old_database,
           c.system_identifier as new_system, d.oid as new_database
    into r
    from tidemill.identity i, pg_control_system() c, pg_database d
    where d.datname = current_database();
    if not found then
        perform tidemill.record_identity();
    elsif not r.same then
        raise exception 'NeedsRebase: the ticks of this database were cut in cluster %, database %; this is cluster %, database %',
            r.old_system, r.old_database, r.new_system, r.new_database
            using errcode = 'TM003',
                  hint = 'The database was restored or copied with its queues. Inserts go on; batches wait.';
    end if;
end
$$;
