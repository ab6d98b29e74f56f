-- Function: tidemill.queue_counts(queue_id)
--
--   How many jobs of each job queue (of this one, if given) are outside the log: leased there,
--   waiting, dead. Counted up to 10,000: more than that is said as 10,000.
--
-- Returns: one row per job queue, and the database's time
-- Who: tidemill_dispatcher, tidemill_monitor. Locks: none.
create or replace function tidemill.queue_counts(
    i_queue_id int4 default null,
    out o_now timestamptz, out o_queue_id int4, out o_leased int8, out o_waiting int8, out o_dead int8)
returns setof record
language sql
stable
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
    select clock_timestamp(), j.queue_id,
           (select count(*) from (select 1 from tidemill.waiting w
                                   where w.queue_id = j.queue_id and w.kind = 'leased' and w.due > clock_timestamp()
                                   limit 10000) w),
           (select count(*) from (select 1 from tidemill.waiting w
                                   where w.queue_id = j.queue_id and (w.kind <> 'leased' or w.due <= clock_timestamp())
                                   limit 10000) w),
           (select count(*) from (select 1 from tidemill.dead d where d.queue_id = j.queue_id limit 10000) d)
      from tidemill.job_queue j
     where i_queue_id is null or j.queue_id = i_queue_id;
$$;
