-- Function: tidemill.stream_jobs(queue_id, jobs)
--
--   A piece of a streamed REPLACE, in its transaction, before the fence is taken.
--
-- Parameters: i_jobs - as one item's "jobs" of tidemill.jobs_insert
-- Returns: how many were inserted
-- Errors and locks: as tidemill.jobs_insert. Who: tidemill_dispatcher.
create or replace function tidemill.stream_jobs(i_queue_id int4, i_jobs jsonb)
returns int4
language sql
volatile
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
    select jsonb_array_length(tidemill.jobs_insert(i_queue_id, jsonb_build_array(jsonb_build_object('jobs', i_jobs))) -> 0);
$$;
