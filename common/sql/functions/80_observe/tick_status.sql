-- tick_status: the ticker's measurements: one row per queue, by name. Ages in seconds, null before the first tick.
-- Callers: tidemill_ticker, tidemill_monitor. Locks: none.
create or replace function tidemill.tick_status()
returns table (queue_name text, last_tick_id bigint, tick_age_seconds double precision,
               event_seq bigint, new_events bigint, ticking boolean)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select q.queue_name, t.tick_id, extract(epoch from clock_timestamp() - t.tick_time)::double precision,
           s.event_seq, s.event_seq - t.tick_event_seq,
           not q.queue_external_ticker and not q.queue_ticker_paused
    from pgq.queue q
    left join lateral (
        select l.* from pgq.tick l
        where l.tick_queue = q.queue_id order by l.tick_queue desc, l.tick_id desc limit 1) t on true
    cross join lateral (
        select coalesce(pg_sequence_last_value(to_regclass(q.queue_event_seq)), 0) as event_seq) s
    order by q.queue_name;
end
$$;
