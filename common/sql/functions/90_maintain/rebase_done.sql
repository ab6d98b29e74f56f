-- rebase_done: all queues were rebased: from now on their ticks are this database's own, in the next epoch.
-- Callers: pgq_admin (`tidemill queue rebase`), in a transaction of its own. Locks: the identity row.
create or replace function tidemill.rebase_done()
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    p       record;
    v_queue text;
begin
    perform 1 from tidemill.identity for update;
    select * into p from tidemill.rebase_plan();
    if not p.needed then
        raise exception 'this database needs no rebase' using errcode = 'object_not_in_prerequisite_state';
    end if;
    select q.queue_name into v_queue from pgq.queue q
    where not exists (select 1 from tidemill.rebased r
                      where r.queue_id = q.queue_id and r.epoch = p.epoch and r.server = p.server)
    order by 1 limit 1;
    if found then
        raise exception 'queue % was not rebased yet', v_queue using errcode = 'object_not_in_prerequisite_state';
    end if;
    update tidemill.identity i
    set system_identifier = s.system_identifier, database_oid = s.database_oid, timeline = s.timeline, refused = null,
        synchronous = current_setting('synchronous_standby_names') <> '', epoch = p.epoch, recorded_at = clock_timestamp()
    from tidemill.this_server() s;
    perform tidemill.mark_birth();
    -- Batches of a lost history must not be finished here.
    perform setval('pgq.batch_id_seq', pgq.seq_getval('pgq.batch_id_seq') + 1000000000);
    delete from tidemill.rebased where epoch < p.epoch;
    return p.epoch;
end
$$;
