-- Function: tidemill.cancel_ended(queue_id, jobs)
--
--   These jobs have come to an end, as cancelled or otherwise: nothing is left to do for them.
--
-- Parameters: i_jobs - array of job ids
-- Who: called by journal_write only, behind the fence. Locks: the rows it deletes, which nobody else touches.
create or replace function tidemill.cancel_ended(i_queue_id int4, i_jobs jsonb)
returns void
language sql
set search_path = pg_catalog, tidemill, pg_temp
as $$
    delete from tidemill.cancelling c
     where c.queue_id = i_queue_id and c.job_id in (select j::int8 from jsonb_array_elements_text(i_jobs) j);
$$;
