-- Function: tidemill.free_unique_key(queue, key)
--
--   Takes a unique key away from the job that holds it, by hand: because that job is gone (somebody moved the
--   queue's consumer over it, or an older dispatcher ended it), or a second copy is wanted all the same. The job
--   itself is left alone.
--
-- Returns: the id of that job; NULL when nobody holds the key
-- Who: pgq_admin, in autocommit: who ends this job waits. Locks: the row, waited for a second at most.
create or replace function tidemill.free_unique_key(i_queue text, i_key text)
returns text
language sql
volatile
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
set lock_timeout = '1s'
as $$
    delete from tidemill.unique_key u using pgq.queue q
     where q.queue_name = i_queue and u.queue_id = q.queue_id and u.key = i_key
    returning u.job_id::text;
$$;
