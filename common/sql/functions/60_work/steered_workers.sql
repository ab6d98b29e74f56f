-- Function: tidemill.steered_workers()
--
--   The workers that are told something else than to run: the latest 10,000 orders, which
--   every dispatcher keeps in memory.
--
-- Who: tidemill_dispatcher, tidemill_monitor. Locks: none.
create or replace function tidemill.steered_workers(out o_instance uuid, out o_state text)
returns setof record
language sql
stable
security definer
set search_path = pg_catalog, tidemill, pg_temp
as $$
    select s.instance, s.state from tidemill.steering s order by s.at desc limit 10000;
$$;
