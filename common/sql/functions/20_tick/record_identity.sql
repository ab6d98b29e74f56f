-- record_identity: remember which cluster and database this is, while there is no queue whose ticks would be older.
-- Callers: create_queue, require_identity. Locks: the identity row.
-- So a database without queues can be copied as a template; a copy of one with queues is detected.
create or replace function tidemill.record_identity()
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select 1 from pgq.queue) and exists (select 1 from tidemill.identity) then
        return;
    end if;
    insert into tidemill.identity as i (system_identifier, database_oid, timeline, synchronous, epoch)
    select s.system_identifier, s.database_oid, s.timeline, current_setting('synchronous_standby_names') <> '', 1
    from tidemill.this_server() s
    on conflict on constraint identity_pkey do update
        set system_identifier = excluded.system_identifier, database_oid = excluded.database_oid,
            timeline = excluded.timeline, synchronous = excluded.synchronous, refused = null,
            epoch = i.epoch + 1, recorded_at = clock_timestamp()
        where (i.system_identifier, i.database_oid, i.timeline)
            is distinct from (excluded.system_identifier, excluded.database_oid, excluded.timeline);
    if found then
        perform tidemill.mark_birth();
    end if;
end
$$;
