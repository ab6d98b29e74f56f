-- Function: tidemill.job_origin(queue_id, job_id)
--
--   Where a job was moved from.
--
-- Returns: {"source", "queue", "id"}; null if it was not moved, or so long ago that it was pruned
-- Who: tidemill_dispatcher, tidemill_monitor; job_details, waiting_again. Locks: none. By the
--   primary key.
create or replace function tidemill.job_origin(i_queue_id int4, i_job_id int8)
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, tidemill, pg_temp
set enable_seqscan = off
set jit = off
as $$
    select jsonb_build_object('source', o.o_source, 'queue', o.o_queue, 'id', o.o_ids[1]::text)
      from tidemill.read_origins(i_queue_id, array[i_job_id], array[i_job_id]) o;
$$;
