-- rotate: empty the oldest event table of a queue and make it the current one, if nobody needs it any more. Returns
-- null, or why not: not_due, locked, lagging_consumer, oldest_transaction, prepared_transaction.
-- tidemill.rotation_obstacles() says who and since when.
-- Callers: tidemill_ticker, maint_rotate_tables_step1. Locks: the queue's row; then for a job queue its fence
-- (7465002, queue_id), exclusive, for at most 500 ms, because its owner's flushes hold it nearly always; then the table
-- to empty (and its journal), not waited for: a long reader or pg_dump delays the rotation and nobody behind it.
--
-- Two conditions. First PgQ's: the lowest consumer's snapshot began after the last switch was known to all, so nothing
-- ordinary in the table is unread. Then, under the exclusive lock, the table is looked into: an event written under a
-- stale table name after that switch, and not yet visible in the lowest consumer's snapshot, keeps it.
create or replace function tidemill.rotate(i_queue text)
returns text
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set lock_timeout = '500ms'
as $$
declare
    q         record;
    v_low     bigint;
    v_last    bigint;
    v_snap    txid_snapshot;
    v_next    integer;
    v_table   text;
    v_journal text;
    v_unread  boolean;
    v_horizon bigint;
begin
    select queue_id, queue_ntables, queue_cur_table, queue_data_pfx, queue_rotation_period,
           queue_switch_step1, queue_switch_step2, queue_switch_time
    into q from pgq.queue where queue_name = i_queue;
    if not found then
        raise exception 'no such queue: %', i_queue using errcode = 'no_data_found';
    end if;
    perform tidemill.prune_ticks(q.queue_id, 10000);
    if q.queue_rotation_period is null or q.queue_switch_step2 is null
        or q.queue_switch_time + q.queue_rotation_period > now()
    then
        return 'not_due';
    end if;
    perform tidemill.require_read_committed('rotation');
    perform tidemill.require_identity();
    -- Before anything is locked: an attempt in vain writes nothing.
    if tidemill.rotation_waits(q.queue_id) is not null then
        return tidemill.rotation_waits(q.queue_id);
    end if;

    select queue_cur_table, queue_switch_step1, queue_switch_step2, queue_switch_time
    into q.queue_cur_table, q.queue_switch_step1, q.queue_switch_step2, q.queue_switch_time
    from pgq.queue where queue_id = q.queue_id for update skip locked;
    if not found then
        return 'locked';
    end if;
    if q.queue_switch_step2 is null or q.queue_switch_time + q.queue_rotation_period > now() then
        return 'not_due';
    end if;
    if txid_current() < q.queue_switch_step1 then
        raise exception 'queue % maint failure: step1=%, current=%', i_queue, q.queue_switch_step1, txid_current()
            using errcode = 'TM003';
    end if;

    -- Without consumers the last tick counts as the lowest: who registers now starts there.
    select tick_id into v_last from pgq.tick
    where tick_queue = q.queue_id order by tick_queue desc, tick_id desc limit 1;
    select coalesce(min(sub_last_tick), v_last) into v_low from pgq.subscription where sub_queue = q.queue_id;
    select tick_snapshot into v_snap from pgq.tick where tick_queue = q.queue_id and tick_id = v_low;
    if not found then
        raise exception 'queue % maint failure: tick % not found', i_queue, v_low;
    end if;
    if txid_snapshot_xmin(v_snap) <= q.queue_switch_step2 then
        return tidemill.rotation_waits(q.queue_id);
    end if;

    -- Ticks of the period that ends here are kept as long as its events: they go one rotation later. So is the one before
    -- them, from which on a consumer reads the first of these events.
    select tick_id into v_horizon from pgq.tick
    where tick_queue = q.queue_id and txid_snapshot_xmin(tick_snapshot) >= q.queue_switch_step2
    order by tick_queue, tick_id limit 1;
    select coalesce(max(tick_id), v_horizon) into v_horizon from pgq.tick
    where tick_queue = q.queue_id and tick_id < v_horizon;

    v_next := (q.queue_cur_table + 1) % q.queue_ntables;
    v_table := pgq.quote_fqname(q.queue_data_pfx || '_' || v_next);
    v_journal := to_regclass(format('tidemill.journal_%s_%s', q.queue_id, v_next))::text;
    begin
        if v_journal is not null then
            perform pg_advisory_xact_lock(7465002, q.queue_id);
        end if;
        execute format('lock table %s in access exclusive mode nowait', v_table);
        if v_journal is not null then
            execute format('lock table %s in access exclusive mode nowait', v_journal);
        end if;
    exception when lock_not_available then
        return 'locked';
    end;
    -- A later statement than the lock: it sees all that was ever committed to the table.
    execute format(
        'select exists (select 1 from %s where ev_txid >= $1 and not txid_visible_in_snapshot(ev_txid, $2))', v_table)
    into v_unread using txid_snapshot_xmin(v_snap), v_snap;
    if v_unread then
        return case when v_low < v_last then 'lagging_consumer' else 'not_due' end;
    end if;

    -- An idle queue's table has no page: a truncate would only write its new files down.
    if pg_relation_size(v_table) > 0 then
        execute format('truncate %s', v_table);
    end if;
    if v_journal is not null and pg_relation_size(v_journal) > 0 then
        execute format('truncate %s', v_journal);
    end if;
    insert into tidemill.tick_horizon as h (queue_id, below_tick, next_below)
    values (q.queue_id, 0, least(v_low, v_horizon))
    on conflict on constraint tick_horizon_pkey do update
        set below_tick = h.next_below, next_below = excluded.next_below;
    update pgq.queue
    set queue_cur_table = v_next, queue_switch_time = now(), queue_switch_step1 = txid_current(),
        queue_switch_step2 = null
    where queue_id = q.queue_id;
    return null;
end
$$;
