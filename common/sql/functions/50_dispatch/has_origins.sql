-- Function: tidemill.has_origins(queue_id)
--
--   Is it known of any event of a queue that it was moved there? Asked in the statement that
--   finds a new tick: whoever sees the tick sees the origins of its events.
--
-- Who: tidemill_dispatcher. Locks: none. By the primary key.
create or replace function tidemill.has_origins(i_queue_id int4)
returns bool
language sql
stable
security definer
set search_path = pg_catalog, tidemill, pg_temp
set enable_seqscan = off
set jit = off
as $$
    select exists (select from tidemill.moved m where m.queue_id = i_queue_id);
$$;
