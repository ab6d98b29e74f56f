-- get_batch_info: where an open batch begins and ends. Unknown batch: one row of nulls.
-- Callers: pgq_reader. Locks: none.
create or replace function pgq.get_batch_info(
    in x_batch_id bigint,
    out queue_name text, out consumer_name text, out batch_start timestamptz, out batch_end timestamptz,
    out prev_tick_id bigint, out tick_id bigint, out lag interval, out seq_start bigint, out seq_end bigint)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_role regrole;
    v_sub  integer;
begin
    select q.queue_name, c.co_name, f.tick_time, t.tick_time, s.sub_last_tick, s.sub_next_tick,
           now() - t.tick_time, f.tick_event_seq, t.tick_event_seq,
           s.sub_id, (select r.role from tidemill.consumer_role r where r.sub_id = s.sub_id)
    into queue_name, consumer_name, batch_start, batch_end, prev_tick_id, tick_id, lag, seq_start, seq_end,
         v_sub, v_role
    from pgq.subscription s
    join pgq.queue q on q.queue_id = s.sub_queue
    join pgq.consumer c on c.co_id = s.sub_consumer
    join pgq.tick f on f.tick_queue = s.sub_queue and f.tick_id = s.sub_last_tick
    join pgq.tick t on t.tick_queue = s.sub_queue and t.tick_id = s.sub_next_tick
    where s.ctid = tidemill.batch_row(x_batch_id);
    if v_role is not null then
        perform tidemill.require_consumer_role(v_role, v_sub);
    end if;
end
$$;
