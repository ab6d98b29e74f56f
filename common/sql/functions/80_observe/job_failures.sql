-- Function: tidemill.job_failures(queue_id, job_id)
--
--   The failures of a job, the oldest first; of more than 1,000 the newest.
--
-- Returns: JSON array of {"attempt", "at", "message", "holder"}
-- Who: tidemill_dispatcher, tidemill_monitor. Locks: none.
create or replace function tidemill.job_failures(i_queue_id int4, i_job_id int8)
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
    select coalesce(jsonb_agg(jsonb_build_object('attempt', f.attempt, 'at', f.at, 'message', f.message, 'holder', f.holder)
                              order by f.at), '[]')
      from (select * from tidemill.failure f where f.queue_id = i_queue_id and f.job_id = i_job_id
             order by f.at desc limit 1000) f;
$$;
