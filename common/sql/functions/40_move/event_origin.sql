-- Function: tidemill.event_origin(queue, event_id)
--
--   Destination side: which source event an event was moved from.
--
-- Returns: one row, or none when the event was not moved here, or so long ago that it was pruned
-- Who: tidemill_mover, tidemill_monitor. Locks: none.
create or replace function tidemill.event_origin(i_queue text, i_event_id int8,
    out source text, out queue text, out source_epoch int8, out from_tick int8, out to_tick int8,
    out event_id int8, out moved_at timestamptz)
returns setof record
language sql
stable
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
    select m.source, m.queue, m.source_epoch, m.from_tick, m.to_tick,
           m.source_ids[(i_event_id - m.first_id + 1)::int4], m.moved_at
      from pgq.queue q,
           lateral (select d.* from tidemill.moved d
                     where d.queue_id = q.queue_id and d.first_id <= i_event_id
                     order by d.first_id desc limit 1) m
     where q.queue_name = i_queue and i_event_id < m.first_id + cardinality(m.source_ids);
$$;
