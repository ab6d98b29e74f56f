-- Function: tidemill.dispatch_paused(queue_id)
--
--   What of a job queue is paused.
--
-- Returns: {"no": how often it was changed, "queue": is it paused as a whole, "types": [...], "keys": [...]};
--   null if there is no such job queue
-- Who: tidemill_dispatcher, tidemill_monitor, pgq_admin. Locks: none.
create or replace function tidemill.dispatch_paused(i_queue_id int4)
returns jsonb
language sql
stable
security definer
set search_path = pg_catalog, tidemill, pg_temp
as $$
    select jsonb_build_object(
               'no', j.pause_no, 'queue', coalesce(bool_or(p.kind = 'queue'), false),
               'types', coalesce(jsonb_agg(p.name order by p.name) filter (where p.kind = 'type'), '[]'),
               'keys', coalesce(jsonb_agg(p.name order by p.name) filter (where p.kind = 'key'), '[]'))
      from tidemill.job_queue j
      left join tidemill.paused p on p.queue_id = j.queue_id
     where j.queue_id = i_queue_id
     group by j.queue_id;
$$;
