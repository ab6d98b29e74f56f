-- Function: tidemill.next_move(queue, consumer, destination, max_events)
--
--   Source side: the next batch of a mover. Registers the consumer where it is absent (from the
--   latest tick on, as every PgQ consumer) and records the destination; then opens a batch over as
--   many ticks as hold about max_events events, at least one. An open batch is returned unchanged,
--   to everybody who asks.
--
-- Parameters: i_destination - {"system_identifier","database_oid"} of the destination
-- Returns: o_state - 'batch' | 'none' (no news) | 'other_destination' (this queue is moved elsewhere)
--          o_batch - as tidemill.open_move; o_queue_id, o_sub_id - for read_move_page
--          o_started - whether a batch was ever finished for this destination
--          o_lag_ms - age of the oldest tick that is not moved yet, 0 without news
-- Errors: TM003 needs a rebase; 'Event queue not created yet'
-- Who: tidemill_mover. Locks: the subscription row, until the end of the transaction.
create or replace function tidemill.next_move(i_queue text, i_consumer text, i_destination jsonb, i_max_events int4,
    out o_state text, out o_batch jsonb, out o_queue_id int4, out o_sub_id int4, out o_started bool, out o_lag_ms int8)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_to   tidemill.moved_to;
    v_sub  record;
    v_tick int8;
    v_lag  interval;
begin
    select q.queue_id into o_queue_id from pgq.queue q where q.queue_name = i_queue;
    select t.* into v_to from tidemill.moved_to t where t.queue_id = o_queue_id and t.consumer = i_consumer;
    if not found then
        perform pgq.register_consumer(i_queue, i_consumer);
        insert into tidemill.moved_to (queue_id, consumer, system_identifier, database_oid)
        values (o_queue_id, i_consumer, (i_destination ->> 'system_identifier')::int8, (i_destination ->> 'database_oid')::int8)
        on conflict do nothing;
        select t.* into strict v_to from tidemill.moved_to t where t.queue_id = o_queue_id and t.consumer = i_consumer;
    end if;
    o_started := v_to.started_at is not null;
    if not tidemill.is_moved_to(v_to, i_destination) then
        o_state := 'other_destination';
        return;
    end if;

    -- Most polls find nothing: they take no lock and write nothing.
    select s.sub_id, s.sub_batch, s.sub_last_tick into v_sub
      from pgq.subscription s join pgq.consumer c on c.co_id = s.sub_consumer
     where s.sub_queue = o_queue_id and c.co_name = i_consumer;
    if not found then
        raise exception 'Not subscriber to queue: %/%', i_queue, i_consumer;
    end if;
    o_sub_id := v_sub.sub_id;
    select clock_timestamp() - t.tick_time into v_lag
      from pgq.tick t where t.tick_queue = o_queue_id and t.tick_id > v_sub.sub_last_tick
     order by t.tick_id limit 1;
    o_lag_ms := coalesce(greatest(0, extract(epoch from v_lag) * 1000)::int8, 0);
    if v_lag is null then
        o_state := 'none';
        return;
    end if;

    -- The lock makes two movers see the same batch: an unlocked next_batch gives each its own id.
    perform from pgq.subscription s where s.sub_queue = o_queue_id and s.sub_id = v_sub.sub_id for update;
    select s.sub_batch, s.sub_last_tick into v_sub.sub_batch, v_sub.sub_last_tick
      from pgq.subscription s where s.sub_queue = o_queue_id and s.sub_id = v_sub.sub_id;
    if v_sub.sub_batch is null then
        v_tick := tidemill.read_range(o_queue_id, v_sub.sub_last_tick, i_max_events);
        perform pgq.next_batch_custom(i_queue, i_consumer, null,
            (select (c.tick_event_seq - p.tick_event_seq)::int4
               from pgq.tick p, pgq.tick c
              where p.tick_queue = o_queue_id and p.tick_id = v_sub.sub_last_tick
                and c.tick_queue = o_queue_id and c.tick_id = v_tick), null);
    end if;
    o_batch := tidemill.open_move(i_queue, i_consumer);
    o_state := case when o_batch is null then 'none' else 'batch' end;
end;
$$;
