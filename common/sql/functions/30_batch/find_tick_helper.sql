-- find_tick_helper: the tick that ends a batch of at least i_min_count events or i_min_interval of time after the
-- previous tick. The newest tick if that is not more than twice beyond, else the earliest that satisfies either.
-- Callers: pgq_reader. Locks: none.
create or replace function pgq.find_tick_helper(
    in i_queue_id integer, in i_prev_tick_id bigint, in i_prev_tick_time timestamptz, in i_prev_tick_seq bigint,
    in i_min_count bigint, in i_min_interval interval,
    out next_tick_id bigint, out next_tick_time timestamptz, out next_tick_seq bigint)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    t        record;
    v_count  bigint;
    v_time   interval;
begin
    select tick_id, tick_time, tick_event_seq into t from pgq.tick
    where tick_queue = i_queue_id and tick_id > i_prev_tick_id
    order by tick_queue desc, tick_id desc limit 1;
    if not found then
        return;
    end if;
    v_count := t.tick_event_seq - i_prev_tick_seq;
    v_time := t.tick_time - i_prev_tick_time;
    if v_count > i_min_count * 2 or v_time > i_min_interval * 2 then
        select tick_id, tick_time, tick_event_seq into t from pgq.tick
        where tick_queue = i_queue_id and tick_id > i_prev_tick_id
          and (tick_event_seq - i_prev_tick_seq >= i_min_count or tick_time - i_prev_tick_time >= i_min_interval)
        order by tick_queue, tick_id limit 1;
    elsif not coalesce(v_count >= i_min_count, false) and not coalesce(v_time >= i_min_interval, false) then
        return;
    end if;
    next_tick_id := t.tick_id;
    next_tick_time := t.tick_time;
    next_tick_seq := t.tick_event_seq;
end
$$;
