-- Function: tidemill.list_waiting(queue_id, after_job, limit)
--
--   A page of a queue's waiting room, by job id: those after the given one (null: from the
--   first). Without arguments: these may be large.
--
-- Returns: o_is_leased - a worker has it, until o_due; otherwise o_due is when it may run,
--   null for one that is parked
-- Who: tidemill_dispatcher, tidemill_monitor. Locks: none. By the primary key.
create or replace function tidemill.list_waiting(
    i_queue_id int4, i_after_job int8, i_limit int4,
    out o_job_id int8, out o_attempt int4, out o_is_leased bool, out o_due timestamptz, out o_time timestamptz,
    out o_type text)
returns setof record
language sql
stable
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
    select w.job_id, w.attempt, w.kind = 'leased' and w.due > clock_timestamp(),
           case when w.kind <> 'parked' then w.due end, w.ev_time, w.ev_type
      from tidemill.waiting w
     where w.queue_id = i_queue_id and w.job_id > coalesce(i_after_job, 0)
     order by w.job_id
     limit i_limit;
$$;
