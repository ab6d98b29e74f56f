-- force_tick: make the next ticker() call tick, by pushing the event sequence beyond max_count. Returns the id of the
-- last tick, so that a caller polls until it changes; null for an unknown queue.
-- Callers: pgq_reader. Locks: none.
create or replace function pgq.force_tick(i_queue_name text)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    q      record;
    v_tick bigint;
begin
    select queue_id, queue_event_seq, queue_ticker_max_count into q from pgq.queue
    where queue_name = i_queue_name and not queue_external_ticker and not queue_ticker_paused;
    if found then
        perform pgq.seq_setval(q.queue_event_seq,
                               pgq.seq_getval(q.queue_event_seq) + q.queue_ticker_max_count * 2 + 1000);
    end if;
    select t.tick_id into v_tick from pgq.tick t join pgq.queue qu on qu.queue_id = t.tick_queue
    where qu.queue_name = i_queue_name order by t.tick_queue desc, t.tick_id desc limit 1;
    return v_tick;
end
$$;
