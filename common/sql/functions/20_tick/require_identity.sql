-- require_identity: refuse (TM003, NeedsRebase) while the stored ticks may not mean what they say: they were cut in
-- another cluster or database, or this server went back in time and ticks may be lost that others have seen.
-- Callers: every tick, rotation, registration, batch that is opened or read, takeover of a job queue.
-- Locks: none; the identity row when a failover is accepted or replication became (a)synchronous.
--
-- What a session found good stays so: neither its cluster nor its timeline can change (on a standby nothing is found
-- good). So the control file is read once a session, and the setting that says so can only harm who forges it: what is
-- written is read from the server.
create or replace function tidemill.require_identity()
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    i      tidemill.identity;
    s      record;
    v_sync boolean := current_setting('synchronous_standby_names') <> '';
    v_why  text;
begin
    select * into i from tidemill.identity;
    if not found then
        perform tidemill.record_identity();
        return;
    end if;
    if i.refused is null and current_setting('tidemill.server', true)
        = i.system_identifier || '/' || i.database_oid || '/' || i.timeline
    then
        if i.synchronous <> v_sync then
            update tidemill.identity set synchronous = v_sync;
        end if;
        return;
    end if;

    if pg_is_in_recovery() then
        raise exception 'this works only on the primary: a standby cannot tell whose ticks it has'
            using errcode = 'read_only_sql_transaction';
    end if;
    select * into s from tidemill.this_server();
    if (i.system_identifier, i.database_oid) <> (s.system_identifier, s.database_oid) then
        v_why := format('the ticks of this database were cut in cluster %s, database %s; this is cluster %s, database %s',
                        i.system_identifier, i.database_oid, s.system_identifier, s.database_oid);
    elsif i.refused is not null then
        v_why := i.refused;
    elsif i.timeline is distinct from s.timeline and tidemill.is_clean_failover(i, s.timeline) is not true then
        v_why := format('the server was recovered or promoted since the last tick (timeline %s, then %s), and nothing'
                        ' shows that no tick was lost', i.timeline, s.timeline);
    end if;
    if v_why is not null then
        if not exists (select 1 from pgq.queue) then
            perform tidemill.record_identity();
            return;
        end if;
        raise exception 'NeedsRebase: %', v_why
            using errcode = 'TM003',
                  hint = 'Inserts go on, batches wait. `tidemill queue rebase` makes the queues work again.';
    end if;
    if i.timeline <> s.timeline or i.synchronous <> v_sync then
        update tidemill.identity set timeline = s.timeline, synchronous = v_sync;
    end if;
    perform set_config('tidemill.server', s.system_identifier || '/' || s.database_oid || '/' || s.timeline, false);
end
$$;
