-- tick_pass: one call ticks every queue that has news; what the ticker service repeats. One row per queue ticked, and
-- one with `problem` for each queue that could not be.
-- Callers: tidemill_ticker. Locks: the tick lock of each queue it ticks (a queue that another ticker holds is skipped).
--
-- News: the event sequence moved, a straggler committed, or a queue without either had no tick for its whole
-- queue_ticker_idle_period. PgQ's max_count and max_lag do not delay it: the pace of the calls does. PgQ's doubling
-- gaps before an idle queue has its full period are pgq.ticker's only: there they bring in stragglers, here
-- has_straggler does.
--
-- A session plans it once, perhaps while there are few ticks and statistics say so: hence the settings, here and in
-- tick_look and cut_tick. Without it, every pass read all ticks until an ANALYZE came.
create or replace function tidemill.tick_pass()
returns table (queue_name text, tick_id bigint, new_events bigint, problem text)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
declare
    q         record;
    v_due     boolean;
    v_known   bigint;
    v_checked boolean := false;
    v_idle    integer[] := '{}';
begin
    perform tidemill.require_read_committed('a tick');
    for q in
        select qu.queue_id, qu.queue_name, qu.queue_event_seq,
               greatest(qu.queue_ticker_idle_period, qu.queue_ticker_max_lag / 2) as idle,
               -- Null only where the sequence is gone, which must not pass for "nothing has come".
               coalesce(pg_sequence_last_value(s.seq), case when s.seq is not null then 0 end) as event_seq,
               t.tick_id, t.tick_snapshot, t.tick_event_seq, clock_timestamp() - t.tick_time as lag,
               current_setting('tidemill.settled_' || qu.queue_id, true) is distinct from t.tick_id::text as unsettled
        from pgq.queue qu
        cross join lateral (select to_regclass(qu.queue_event_seq) as seq) s
        left join lateral (
            select * from pgq.tick l
            where l.tick_queue = qu.queue_id order by l.tick_queue desc, l.tick_id desc limit 1) t on true
        where not qu.queue_external_ticker and not qu.queue_ticker_paused
        order by qu.queue_name
    loop
        v_due := q.event_seq is distinct from q.tick_event_seq
            -- The first tick of a queue is followed by another one at once, as PgQ does it. Negative: a clock went back.
            or q.tick_id = 1 or q.lag >= q.idle or q.lag < '0';
        continue when not v_due and not q.unsettled;
        -- Not for an idle pass: it reads the control file. And outside the block below: it concerns all queues.
        if v_due and not v_checked then
            perform tidemill.require_identity();
            v_checked := true;
        end if;
        if v_due and not q.unsettled and q.event_seq = q.tick_event_seq and q.tick_id > 1 and q.lag >= '0' then
            v_idle := v_idle || q.queue_id;
            continue;
        end if;
        begin
            tick_pass.queue_name := q.queue_name;
            tick_pass.tick_id := null;
            tick_pass.new_events := null;
            tick_pass.problem := null;
            if not v_due then
                continue when not tidemill.has_straggler(q.queue_id, q.tick_id, q.tick_snapshot);
                perform tidemill.require_identity();
            end if;
            if not pg_try_advisory_xact_lock(7465001, q.queue_id) then
                continue;
            end if;
            -- Sequence and last tick again, now that no other ticker moves them; the snapshot comes after.
            select coalesce(pg_sequence_last_value(q.queue_event_seq::regclass), 0), t.tick_snapshot, t.tick_event_seq
            into q.event_seq, q.tick_snapshot, v_known
            from (select 1) one left join lateral (
                select * from pgq.tick l
                where l.tick_queue = q.queue_id order by l.tick_queue desc, l.tick_id desc limit 1) t on true;
            if v_known is not null then
                perform tidemill.require_sane_tick(q.queue_name, q.tick_snapshot, q.event_seq - v_known);
            end if;
            tick_pass.tick_id := tidemill.cut_tick(q.queue_id, q.event_seq);
            tick_pass.new_events := greatest(q.event_seq - coalesce(v_known, 0), 0);
            return next;
        exception when others then
            tick_pass.problem := format('%s %s', sqlstate, sqlerrm);
            return next;
        end;
    end loop;
    if v_idle <> '{}' then
        begin
            return query select * from tidemill.cut_idle_ticks(v_idle);
            return;
        exception when others then
            -- One of them cannot be ticked. The others can.
            null;
        end;
    end if;
    for q in select qu.queue_id, qu.queue_name from pgq.queue qu where qu.queue_id = any (v_idle) order by 2 loop
        begin
            return query select * from tidemill.cut_idle_ticks(array[q.queue_id]);
        exception when others then
            tick_pass.queue_name := q.queue_name;
            tick_pass.tick_id := null;
            tick_pass.new_events := null;
            tick_pass.problem := format('%s %s', sqlstate, sqlerrm);
            return next;
        end;
    end loop;
end
$$;
