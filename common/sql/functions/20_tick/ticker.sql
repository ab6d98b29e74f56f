-- ticker: PgQ's ticker calls, for pgqd and for hands. The service calls tidemill.tick_pass.
-- Callers: pgq_admin. Locks: each queue's tick lock, waited for, in the order of the queue names.

-- Tick one queue if PgQ's rules say so: the tick's id, or null.
create or replace function pgq.ticker(i_queue_name text)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    q         record;
    v_last    record;
    v_seq     bigint;
    v_new     bigint;
    v_lag     interval;
begin
    perform tidemill.require_read_committed('a tick');
    perform tidemill.require_identity();
    select queue_id into q from pgq.queue where queue_name = i_queue_name;
    if not found then
        raise exception 'no such queue';
    end if;
    perform pg_advisory_xact_lock(7465001, q.queue_id);
    -- What was true before the wait for the lock may not be now: read after it.
    select queue_id, queue_event_seq, queue_external_ticker, queue_ticker_paused,
           queue_ticker_max_count, queue_ticker_max_lag, queue_ticker_idle_period
    into q from pgq.queue where queue_id = q.queue_id;
    if not found then
        raise exception 'no such queue';
    elsif q.queue_external_ticker then
        raise exception 'This queue has external tick source.';
    elsif q.queue_ticker_paused then
        raise exception 'Ticker has been paused for this queue';
    end if;

    select t.tick_id, t.tick_time, t.tick_snapshot, t.tick_event_seq,
           t.tick_time - (
               select p.tick_time from pgq.tick p
               where p.tick_queue = q.queue_id and p.tick_id < t.tick_id
               order by p.tick_queue desc, p.tick_id desc limit 1) as gap
    into v_last from pgq.tick t
    where t.tick_queue = q.queue_id order by t.tick_queue desc, t.tick_id desc limit 1;
    v_seq := pgq.seq_getval(q.queue_event_seq);
    if v_last.tick_id is null then
        return tidemill.cut_tick(q.queue_id, v_seq);
    end if;

    v_new := v_seq - v_last.tick_event_seq;
    perform tidemill.require_sane_tick(i_queue_name, v_last.tick_snapshot, v_new);
    v_lag := now() - v_last.tick_time;
    if v_new > 0 or tidemill.has_straggler(q.queue_id, v_last.tick_id, v_last.tick_snapshot) then
        if v_new < q.queue_ticker_max_count and v_lag >= '0' and v_lag < q.queue_ticker_max_lag then
            return null;
        end if;
    elsif not tidemill.idle_tick_due(v_lag, v_last.gap, q.queue_ticker_max_lag, q.queue_ticker_idle_period) then
        return null;
    end if;
    return tidemill.cut_tick(q.queue_id, v_seq);
end
$$;

-- Tick all queues of the database: how many were ticked. An error in one queue is a warning, the others go on.
create or replace function pgq.ticker()
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_queue text;
    v_count bigint := 0;
begin
    perform tidemill.require_read_committed('a tick');
    perform tidemill.require_identity();
    for v_queue in
        select queue_name from pgq.queue
        where not queue_external_ticker and not queue_ticker_paused order by queue_name
    loop
        begin
            if pgq.ticker(v_queue) is not null then
                v_count := v_count + 1;
            end if;
        exception when others then
            raise warning 'tick of queue % failed: % (%)', v_queue, sqlerrm, sqlstate;
        end;
    end loop;
    return v_count;
end
$$;

-- Tick of an external source: its id, time and event sequence, with a snapshot of here.
create or replace function pgq.ticker(i_queue_name text, i_tick_id bigint, i_orig_timestamp timestamptz, i_event_seq bigint)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    q record;
begin
    perform tidemill.require_read_committed('a tick');
    perform tidemill.require_identity();
    perform pg_advisory_xact_lock(7465001, queue_id) from pgq.queue where queue_name = i_queue_name;
    -- Read after the lock, as above.
    select queue_id, queue_tick_seq, queue_event_seq into q from pgq.queue
    where queue_name = i_queue_name and queue_external_ticker and not queue_ticker_paused;
    if not found then
        raise exception 'queue not found or ticker disabled: %', i_queue_name;
    end if;
    if current_setting('synchronous_commit') not in ('on', 'remote_apply') then
        perform set_config('synchronous_commit', 'on', true);
    end if;
    insert into pgq.tick (tick_queue, tick_id, tick_time, tick_snapshot, tick_event_seq)
    values (q.queue_id, i_tick_id, i_orig_timestamp, txid_current_snapshot(), i_event_seq);
    perform pgq.seq_setval(q.queue_tick_seq, i_tick_id);
    perform pgq.seq_setval(q.queue_event_seq, i_event_seq);
    perform pg_notify('tidemill_tick', '');
    return i_tick_id;
end
$$;
