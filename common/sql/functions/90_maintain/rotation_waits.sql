-- rotation_waits: what PgQ's condition for a rotation waits for, once its time has come: the snapshot of the lowest
-- consumer's tick must have begun after the last switch was known to all. Null: it is met. Else lagging_consumer; or
-- oldest_transaction or prepared_transaction, which hold back the snapshots of the whole server; or not_due: only the
-- next tick is missing.
-- Callers: rotate, rotation_obstacles. Locks: none. Without consumers the last tick counts: who registers now starts there.
create or replace function tidemill.rotation_waits(i_queue_id integer)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_switch bigint;
    v_low    bigint;
    v_last   bigint;
    v_snap   txid_snapshot;
    v_oldest bigint := txid_snapshot_xmin(txid_current_snapshot());
begin
    select queue_switch_step2 into v_switch from pgq.queue where queue_id = i_queue_id;
    select tick_id into v_last from pgq.tick
    where tick_queue = i_queue_id order by tick_queue desc, tick_id desc limit 1;
    select coalesce(min(sub_last_tick), v_last) into v_low from pgq.subscription where sub_queue = i_queue_id;
    select tick_snapshot into v_snap from pgq.tick where tick_queue = i_queue_id and tick_id = v_low;
    if not found then
        raise exception 'queue % maint failure: tick % not found',
            (select queue_name from pgq.queue where queue_id = i_queue_id), v_low;
    end if;
    return case
        when txid_snapshot_xmin(v_snap) > v_switch then null
        when v_oldest <= v_switch and exists (
            -- The low half of a transaction id, without its epoch.
            select 1 from pg_prepared_xacts p where p.transaction::text::bigint = v_oldest & 4294967295)
        then 'prepared_transaction'
        when v_oldest <= v_switch then 'oldest_transaction'
        when v_low < v_last then 'lagging_consumer'
        else 'not_due'
    end;
end
$$;
