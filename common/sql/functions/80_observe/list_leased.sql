-- Function: tidemill.list_leased(queue_id, after_job, type, limit)
--
--   A page of the leases that live in a queue's waiting room, by job id: those after the given
--   one (null: from the first), of one type or (null) of all. Without arguments: these may be
--   large.
--
-- Who: tidemill_dispatcher, tidemill_monitor. Locks: none. By the index on what is leased there.
create or replace function tidemill.list_leased(
    i_queue_id int4, i_after_job int8, i_type text, i_limit int4,
    out o_job_id int8, out o_attempt int4, out o_time timestamptz, out o_type text)
returns setof record
language sql
stable
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
set enable_seqscan = off
set jit = off
as $$
    select w.job_id, w.attempt, w.ev_time, w.ev_type
      from tidemill.waiting w
     where w.queue_id = i_queue_id and w.kind = 'leased' and w.job_id > coalesce(i_after_job, 0)
       and w.due > clock_timestamp() and (i_type is null or coalesce(w.ev_type, '') = i_type)
     order by w.job_id
     limit i_limit;
$$;
