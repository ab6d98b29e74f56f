-- Function: tidemill.read_range(queue_id, from_tick, max_events)
--
--   The tick up to which a reader may read on from from_tick: as many ticks as hold about
--   max_events events by the event sequence, at least one.
--
--   By the index, however few ticks the statistics know of (see tick_pass).
--
-- Returns: the tick id, NULL when there is no later tick
-- Who: tidemill_dispatcher. Locks: none.
create or replace function tidemill.read_range(i_queue_id int4, i_from_tick int8, i_max_events int4)
returns int8
language sql
stable
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
set enable_seqscan = off
set jit = off
as $$
    select coalesce(max(n.tick_id) filter (where n.tick_event_seq - f.tick_event_seq <= i_max_events), min(n.tick_id))
      from pgq.tick f,
           lateral (select t.tick_id, t.tick_event_seq from pgq.tick t
                     where t.tick_queue = i_queue_id and t.tick_id > i_from_tick
                     order by t.tick_id limit 1000) n
     where f.tick_queue = i_queue_id and f.tick_id = i_from_tick;
$$;
