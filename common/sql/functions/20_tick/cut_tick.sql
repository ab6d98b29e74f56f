-- cut_tick: store the next tick of one queue and return its id. After an outage or a bulk load it cuts several, so that
-- no batch holds many times more events than anybody wants to read at once: see cut_early_ticks. The last is this one.
-- Callers: only functions which took the queue's tick lock (7465001, queue_id) in an earlier statement, and read
-- i_event_seq in another one after that; the snapshot is taken by the insert here. Lock, sequence, snapshot, in this
-- order, each in a statement of its own: a snapshot from before the lock could be older than the previous tick's.
--
-- The tick is the durability barrier: its commit waits for the disk (and a synchronous standby), whatever the
-- producers chose, and so covers every commit that its snapshot saw.
create or replace function tidemill.cut_tick(i_queue_id integer, i_event_seq bigint)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    v_cap  bigint;
    v_seq  bigint;
    v_last txid_snapshot;
    v_cut  txid_snapshot;
    v_tick bigint;
    v_time timestamptz;
begin
    perform tidemill.require_read_committed('a tick');
    if current_setting('synchronous_commit') not in ('on', 'remote_apply') then
        perform set_config('synchronous_commit', 'on', true);
    end if;
    select tick_snapshot, tick_event_seq into v_last, v_seq from pgq.tick
    where tick_queue = i_queue_id order by tick_queue desc, tick_id desc limit 1;
    select greatest(queue_ticker_max_count, 10000) into v_cap from pgq.queue where queue_id = i_queue_id;
    v_time := clock_timestamp();
    if i_event_seq - v_seq > v_cap * 2 then
        v_last := tidemill.cut_early_ticks(i_queue_id, v_last, v_seq, i_event_seq, v_cap, v_time);
    end if;

    insert into pgq.tick (tick_queue, tick_id, tick_time, tick_snapshot, tick_event_seq)
    select i_queue_id, nextval(queue_tick_seq::regclass), v_time, txid_current_snapshot(), i_event_seq
    from pgq.queue where queue_id = i_queue_id
    returning tick_id, tick_snapshot into v_tick, v_cut;
    if v_last is not null then
        perform tidemill.assert_later(v_last, v_cut);
    end if;

    -- A hint that something is there, one per transaction; consumers that only poll miss nothing.
    perform pg_notify('tidemill_tick', '');
    return v_tick;
end
$$;
