-- Function: tidemill.dispatch_queues()
--
--   Every job queue with its settings and its owner: what a dispatcher needs to route a
--   request, and to see which queues nobody owns.
--
-- Returns: one row per job queue; o_paused as dispatch_paused, null if nothing ever was; o_left_ms is what is left of the owner's term (0 or less: free)
-- Who: tidemill_dispatcher. Locks: none.
create or replace function tidemill.dispatch_queues(
    out o_queue text, out o_queue_id int4, out o_sub_id int4, out o_lease_ms int4, out o_max_attempts int4,
    out o_backoff text, out o_backoff_base_ms int4, out o_backoff_cap_ms int4, out o_window_jobs int4, out o_window_bytes int8,
    out o_doorbell bool, out o_limits jsonb, out o_paused jsonb, out o_epoch int8, out o_holder uuid, out o_address text, out o_left_ms int8)
returns setof record
language sql
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
    select q.queue_name, j.queue_id, j.sub_id, j.lease_ms, j.max_attempts, j.backoff, j.backoff_base_ms, j.backoff_cap_ms,
           j.window_jobs, j.window_bytes, j.doorbell, j.limits, case when j.pause_no > 0 then tidemill.dispatch_paused(j.queue_id) end, o.epoch, o.holder, o.address,
           case when o.until > clock_timestamp() then ceil(extract(epoch from o.until - clock_timestamp()) * 1000)::int8 else 0 end
      from tidemill.job_queue j
      join pgq.queue q on q.queue_id = j.queue_id
      join tidemill.owner o on o.queue_id = j.queue_id
     order by q.queue_name;
$$;
