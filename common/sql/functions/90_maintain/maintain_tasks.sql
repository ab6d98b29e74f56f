-- maintain_tasks: what maintenance has to do now, without doing any of it: a rotation that is due, with what it waits for
-- (see rotation_waits; null: nothing, try it), a rotation whose second step is missing, old ticks to remove, answers to forget
-- (of no one queue: '').
-- Callers: tidemill_ticker. Locks: none. An idle database writes nothing for it, also while a consumer lags.
create or replace function tidemill.maintain_tasks()
returns table (queue_name text, task text, waits text)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select q.queue_name, 'finish', null::text from pgq.queue q where q.queue_switch_step2 is null
    order by q.queue_name;
    return query
    select q.queue_name, 'rotate', tidemill.rotation_waits(q.queue_id) from pgq.queue q
    where q.queue_switch_step2 is not null and q.queue_switch_time + q.queue_rotation_period <= now()
    order by q.queue_name;
    return query
    select q.queue_name, 'prune', null::text
    from tidemill.tick_horizon h join pgq.queue q on q.queue_id = h.queue_id
    where tidemill.prunable_below(h.queue_id) is not null order by q.queue_name;
    return query
    select '', 'forget', null::text
    where exists (select from tidemill.idempotency i where i.until <= now());
end
$$;
