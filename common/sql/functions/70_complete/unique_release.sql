-- Function: tidemill.unique_release(queue_id, jobs)
--
--   These jobs have come to an end: their unique keys are free.
--
-- Who: called where jobs that have a key come to an end, by whoever decides that. Locks: the rows it deletes: nobody
--   else does, because nobody else may end these jobs.
create or replace function tidemill.unique_release(i_queue_id int4, i_jobs int8[])
returns void
language sql
set search_path = pg_catalog, tidemill, pg_temp
as $$
    delete from tidemill.unique_key u where u.queue_id = i_queue_id and u.job_id = any (i_jobs);
$$;
