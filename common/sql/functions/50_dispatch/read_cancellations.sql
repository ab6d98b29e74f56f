-- Function: tidemill.read_cancellations(queue_id)
--
--   What cancellations still have to do: what a new owner must know.
--
-- Returns: per key its code and snapshot, per single job its code
-- Who: tidemill_dispatcher. Locks: none.
create or replace function tidemill.read_cancellations(i_queue_id int4, out o_key int8, out o_job int8, out o_code int4, out o_snapshot text)
returns setof record
language sql
stable
security definer
set search_path = pg_catalog, tidemill, pg_temp
as $$
    select c.cancel_key, null::int8, c.code, c.snapshot::text from tidemill.cancellation c where c.queue_id = i_queue_id
    union all
    select null, c.job_id, c.code, null from tidemill.cancelling c where c.queue_id = i_queue_id;
$$;
