-- get_consumer_info: where the consumers are, by queue and consumer; a null argument means all.
-- Callers: everybody. Locks: none.
create or replace function pgq.get_consumer_info(
    in i_queue_name text, in i_consumer_name text,
    out queue_name text, out consumer_name text, out lag interval, out last_seen interval,
    out last_tick bigint, out current_batch bigint, out next_tick bigint, out pending_events bigint)
returns setof record
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select q.queue_name, c.co_name, now() - cur.tick_time, now() - s.sub_active,
           s.sub_last_tick, s.sub_batch, s.sub_next_tick, last.tick_event_seq - cur.tick_event_seq
    from pgq.subscription s
    join pgq.queue q on q.queue_id = s.sub_queue
    join pgq.consumer c on c.co_id = s.sub_consumer
    left join pgq.tick cur on cur.tick_queue = s.sub_queue and cur.tick_id = s.sub_last_tick
    left join lateral (
        select t.tick_event_seq from pgq.tick t
        where t.tick_queue = q.queue_id order by t.tick_queue desc, t.tick_id desc limit 1) last on true
    where (i_queue_name is null or q.queue_name = i_queue_name)
      and (i_consumer_name is null or c.co_name = i_consumer_name)
    order by q.queue_name, c.co_name;
end
$$;

create or replace function pgq.get_consumer_info(
    in i_queue_name text,
    out queue_name text, out consumer_name text, out lag interval, out last_seen interval,
    out last_tick bigint, out current_batch bigint, out next_tick bigint, out pending_events bigint)
returns setof record
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query select * from pgq.get_consumer_info(i_queue_name, null);
end
$$;

create or replace function pgq.get_consumer_info(
    out queue_name text, out consumer_name text, out lag interval, out last_seen interval,
    out last_tick bigint, out current_batch bigint, out next_tick bigint, out pending_events bigint)
returns setof record
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query select * from pgq.get_consumer_info(null, null);
end
$$;
