-- translate_queue: give a queue's log coordinates of this cluster: the same ticks cut it at the same places, but their
-- snapshots and the events' transaction ids are numbers that this cluster has used up. Returns how many events remain.
-- Callers: rebase_queue, under its locks. Locks: none more. Rewrites the events that some batch may still have.
--
-- Tick j of the m that are here becomes the snapshot "all below V(j) + 1", and an event that tick j was the first to see
-- gets the transaction id V(j), where V(1) < V(2) < … are ended transactions of this cluster. Between two ticks there is
-- exactly what there was. Cursors, open batches, a group's members: all go by tick ids, and need not be touched.
-- An event that no tick has seen, or that was inserted here since the restore, gets this transaction's id, which no
-- tick here sees and the next one does. An event that the first tick sees is in nobody's batch: it goes.
create or replace function tidemill.translate_queue(
    i_queue_id integer, i_last pgq.tick, i_own_rows boolean, i_positions jsonb, i_txid bigint)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    v_below    constant bigint := txid_snapshot_xmin(txid_current_snapshot());
    v_ids      bigint[];
    v_ends     bigint[];
    v_beyond   record;
    v_base     bigint;
    v_restored bigint[] := '{}';
    v_journal  bigint;
    v_table    text;
    v_rows     bigint;
    v_total    bigint := 0;
begin
    select txid_snapshot_xmax(t.tick_snapshot) into v_journal
    from tidemill.job_queue j
    join pgq.subscription s on s.sub_queue = j.queue_id
    join pgq.consumer c on c.co_id = s.sub_consumer and c.co_name = 'tidemill.dispatcher'
    join pgq.tick t on t.tick_queue = s.sub_queue and t.tick_id = s.sub_last_tick
    where j.queue_id = i_queue_id;

    perform tidemill.rebase_thin(i_queue_id, least(v_below - 4 - jsonb_array_length(i_positions), 1000000));
    select array_agg(tick_id order by tick_id), array_agg(txid_snapshot_xmax(tick_snapshot) order by tick_id)
    into v_ids, v_ends from pgq.tick where tick_queue = i_queue_id;
    -- Ticks that only destinations know, after ours: each sees what it says, or (rows of before a server went back,
    -- whose transaction ids were used again) the events that its destination has.
    select array_agg((e ->> 'tick')::bigint order by (e ->> 'tick')::bigint) as ids,
           array_agg((e ->> 'snapshot')::txid_snapshot order by (e ->> 'tick')::bigint) as snapshots,
           jsonb_agg(coalesce(e -> 'moved', '[]') order by (e ->> 'tick')::bigint) as moved,
           array_agg(timestamptz 'epoch' + (e ->> 'time')::bigint * interval '1 microsecond'
                     order by (e ->> 'tick')::bigint) as times
    into v_beyond from jsonb_array_elements(i_positions) e where (e ->> 'tick')::bigint > i_last.tick_id;
    v_base := v_below - 1 - cardinality(v_ids) - coalesce(cardinality(v_beyond.ids), 0);

    for v_table in select t from tidemill.event_tables(i_queue_id) t loop
        if not i_own_rows then
            v_restored := tidemill.restored_xids(v_table);
        end if;
        perform tidemill.translate_cancellations(i_queue_id, v_table, case when not i_own_rows then v_restored end);
        -- The first tick that sees a transaction is nearly always the first one whose end is after it.
        execute format(
            'update only %s e set ev_txid = case when not $1 and xmin::text::bigint <> all ($2) then $3 else coalesce('
            ' $4 + (select width_bucket(t.tick_id, $5) from pgq.tick t'
            '       where t.tick_queue = $6 and t.tick_id >= ($5)[width_bucket(e.ev_txid, $7) + 1]'
            '         and txid_visible_in_snapshot(e.ev_txid, t.tick_snapshot)'
            '       order by t.tick_queue, t.tick_id limit 1),'
            ' $4 + cardinality($5) + (select min(n) from unnest($8::txid_snapshot[]) with ordinality b(snapshot, n)'
            '       where case when $1 then $9::jsonb -> (n - 1)::integer @> to_jsonb(e.ev_id)'
            '                  else txid_visible_in_snapshot(e.ev_txid, b.snapshot) end),'
            ' $3) end', v_table)
        using i_own_rows, v_restored, i_txid, v_base, v_ids, i_queue_id, v_ends, v_beyond.snapshots, v_beyond.moved;
        get diagnostics v_rows = row_count;
        v_total := v_total + v_rows;
        execute format('delete from only %s where ev_txid = $1', v_table) using v_base + 1;
        get diagnostics v_rows = row_count;
        v_total := v_total - v_rows;
    end loop;

    update pgq.tick t set tick_snapshot = format('%1$s:%1$s:', v_base + n + 1)::txid_snapshot
    from unnest(v_ids) with ordinality k(id, n)
    where t.tick_queue = i_queue_id and t.tick_id = k.id;
    insert into pgq.tick (tick_queue, tick_id, tick_time, tick_snapshot, tick_event_seq)
    select i_queue_id, b.id, b.time, format('%1$s:%1$s:', v_base + cardinality(v_ids) + n + 1)::txid_snapshot,
           i_last.tick_event_seq
    from unnest(v_beyond.ids, v_beyond.times) with ordinality b(id, time, n);

    -- What happened to entries above the low-water mark happened after it. The rest is of no more use.
    for v_table in select j from tidemill.journal_tables(i_queue_id) j loop
        execute format('delete from %s where j_txid < $1', v_table) using v_journal;
        execute format('update %s set j_txid = $1', v_table) using i_txid;
    end loop;
    -- Of cancellations by key the single jobs are written down; those are looked for anew before they are forgotten.
    delete from tidemill.cancellation where queue_id = i_queue_id;
    update tidemill.cancelling set unseen = null where queue_id = i_queue_id;
    -- No rotation before every consumer is past this transaction.
    update pgq.queue set queue_switch_step1 = i_txid, queue_switch_step2 = i_txid where queue_id = i_queue_id;
    return v_total;
end
$$;
