-- Function: tidemill.tick_mark(tick)
--
--   A tick named by id, time (microseconds since 1970) and snapshot: two ticks with equal marks
--   cut the log at the same place.
--
-- Who: the other functions of this stage. Locks: none.
create or replace function tidemill.tick_mark(i_tick pgq.tick)
returns jsonb
language sql
immutable
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
    select jsonb_build_object(
        'tick', i_tick.tick_id,
        'time', (extract(epoch from i_tick.tick_time) * 1000000)::int8,
        'snapshot', i_tick.tick_snapshot::text);
$$;
