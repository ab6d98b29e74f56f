-- Function: tidemill.list_dead(queue_id, after_at, after_job, limit)
--
--   A page of a queue's dead letters, the oldest first: those that died after the given
--   one (null: from the first).
--
-- Who: tidemill_dispatcher, tidemill_monitor. Locks: none.
create or replace function tidemill.list_dead(
    i_queue_id int4, i_after_at timestamptz, i_after_job int8, i_limit int4,
    out o_job_id int8, out o_attempt int4, out o_at timestamptz, out o_reason text, out o_message text,
    out o_time timestamptz, out o_type text, out o_data text, out o_extra1 text)
returns setof record
language sql
stable
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
    select d.job_id, d.attempt, d.at, d.reason, d.message, d.ev_time, d.ev_type, d.ev_data, d.ev_extra1
      from tidemill.dead d
     where d.queue_id = i_queue_id
       and (d.at, d.job_id) > (coalesce(i_after_at, '-infinity'), coalesce(i_after_job, 0))
     order by d.at, d.job_id
     limit i_limit;
$$;
