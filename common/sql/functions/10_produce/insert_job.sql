-- Function: tidemill.insert_job(queue, type, args, options)
--
--   Puts one job into a job queue, in the caller's own transaction.
--
-- Returns: the job id (decimal)
-- Errors and rights: as tidemill.insert_jobs
create or replace function tidemill.insert_job(i_queue text, i_type text, i_args jsonb default null, i_options jsonb default null)
returns text
language sql
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
    select tidemill.insert_jobs(i_queue, jsonb_build_array(jsonb_build_object('type', i_type, 'args', i_args, 'options', i_options)));
$$;
