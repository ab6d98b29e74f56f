-- cut_early_ticks: cut what has come since the last tick of a queue into ticks of about i_cap events, all but the last
-- one, which is the caller's. Returns the snapshot of the last tick that is there then.
-- Callers: cut_tick, under the queue's tick lock. Locks: none beyond a reader's. Reads the transaction-id index only,
-- until the client's statement is a second old (some millions of events); what is left is cut evenly by transaction id,
-- unread, into a thousand ticks at most.
--
-- A tick is a stored snapshot, and one that is earlier than now can be derived. Let L be the last tick, S a snapshot of
-- now and xmax(L) < x < xmax(S). early_snapshot(S, x) sees the transactions below x that S sees. So
-- * it sees nothing that S does not see: all of it has ended, and is durable when this transaction's commit is;
-- * it sees all that L sees: that is below xmax(L), so below x, and had ended before S was taken;
-- * a higher x sees more, and a transaction that S does not see, none of them sees.
-- Hence every transaction's events are in exactly one of the batches, like with any other ticks. What L saw in progress
-- and S as ended comes with the first. A transaction is never divided: one that is larger than i_cap is a batch alone.
-- Stragglers (has_straggler) are those of the last tick, which is real. A rotation asks whether a transaction is visible
-- in a consumer's tick, and knows that those below its xmin are: true here, too. No tick ends below the last switch of
-- tables: the real PgQ's readers, which we may serve, would look for its events in the table before only.
--
-- All ticks have the time of their snapshot. Their event sequences are the count of what was read, so about right.
create or replace function tidemill.cut_early_ticks(
    i_queue_id integer, i_last txid_snapshot, i_last_seq bigint, i_event_seq bigint, i_cap bigint, i_time timestamptz)
returns txid_snapshot
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
as $$
declare
    v_snapshot constant txid_snapshot := txid_current_snapshot();
    v_end      constant bigint := txid_snapshot_xmax(v_snapshot);
    -- All queues of a pass together: its caller does not wait for ever.
    v_enough   constant timestamptz := statement_timestamp() + interval '1 second';
    v_last     txid_snapshot := i_last;
    v_seq      bigint := i_last_seq;
    v_size     bigint := i_cap;
    v_source   text;
    v_from     bigint;
    v_first    bigint;
    v_next     bigint;
    v_parts    bigint;
    v_step     bigint;
begin
    -- The limit within keeps each table to its index: the planner would rather read the whole range and sort it.
    select string_agg(format('(select ev_txid from %s where ev_txid >= $1 and ev_txid < $2'
                             ' order by ev_txid limit $3 + 1)', t), ' union all ')
    into v_source from tidemill.event_tables(i_queue_id) t;
    select greatest(txid_snapshot_xmax(i_last), queue_switch_step1) into v_from
    from pgq.queue where queue_id = i_queue_id;
    loop
        if clock_timestamp() < v_enough then
            execute format('select min(ev_txid), (array_agg(ev_txid order by ev_txid))[$3 + 1] from (%s) e', v_source)
            into v_first, v_next using v_from, v_end, i_cap;
            -- The transaction of the event that is too many is left for the next batch, unless it is the only one.
            v_from := case when v_first < v_next then v_next else v_next + 1 end;
        else
            if v_parts is null then
                v_parts := least(greatest((i_event_seq - v_seq) / i_cap, 1), 1000);
                v_step := greatest((v_end - v_from) / v_parts, 1);
                v_size := greatest((i_event_seq - v_seq) / v_parts, 0);
            end if;
            v_from := v_from + v_step;
        end if;
        exit when v_from >= v_end or v_from is null;
        v_last := tidemill.early_snapshot(v_snapshot, v_from);
        v_seq := least(v_seq + v_size, i_event_seq);
        insert into pgq.tick (tick_queue, tick_id, tick_time, tick_snapshot, tick_event_seq)
        select i_queue_id, nextval(queue_tick_seq::regclass), i_time, v_last, v_seq
        from pgq.queue where queue_id = i_queue_id;
    end loop;
    return v_last;
end
$$;
