-- is_early_tick: is this one of the ticks that cut_early_ticks derived? It has the time of the next one. Its event
-- sequence was not read before its snapshot, but counted: it does not say which event ids had been given out.
-- Callers: job_details. Locks: none.
create or replace function tidemill.is_early_tick(i_tick pgq.tick)
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select 1 from pgq.tick n
        where n.tick_queue = i_tick.tick_queue and n.tick_id = i_tick.tick_id + 1 and n.tick_time = i_tick.tick_time)
$$;
