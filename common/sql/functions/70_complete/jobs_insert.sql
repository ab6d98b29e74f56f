-- Function: tidemill.jobs_insert(queue_id, items)
--
--   Puts the jobs of several REPLACEs into their queues, in the caller's transaction.
--
-- Parameters: i_items - array of {"job", "jobs": [{"queue", "type", "args", "options"}, ...]}; the job that
--   is replaced is details_note's; an absent queue is the job's own; the rest as for tidemill.insert_jobs
-- Returns: array, in the order given, of arrays of job ids, in the order given
-- Errors: 22023 when a queue is no job queue; as tidemill.insert_jobs
-- Who: called by journal_write, waiting_finish and replace_jobs only. Locks: none beyond the rows it inserts.
create or replace function tidemill.jobs_insert(i_queue_id int4, i_items jsonb)
returns jsonb
language plpgsql
volatile
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_own   text;
    v_queue text;
    v_jobs  jsonb;
    v_place int8[];
    v_place_all int8[] := '{}';
    v_ids_all   text[] := '{}';
begin
    select q.queue_name into v_own from pgq.queue q where q.queue_id = i_queue_id;
    for v_queue in
        select distinct coalesce(c ->> 'queue', v_own)
          from jsonb_array_elements(i_items) i, jsonb_array_elements(i -> 'jobs') c order by 1
    loop
        if not exists (select 1 from pgq.queue q join tidemill.job_queue j on j.queue_id = q.queue_id where q.queue_name = v_queue) then
            raise exception 'queue "%" is not a job queue', v_queue using errcode = '22023';
        end if;
        select jsonb_agg(c.job - 'queue' order by i.n, c.n), array_agg(i.n << 32 | c.n order by i.n, c.n)
          into v_jobs, v_place
          from jsonb_array_elements(i_items) with ordinality as i (item, n),
               jsonb_array_elements(i.item -> 'jobs') with ordinality as c (job, n)
         where coalesce(c.job ->> 'queue', v_own) = v_queue;
        v_place_all := v_place_all || v_place;
        v_ids_all := v_ids_all || array(select id from tidemill.insert_jobs(v_queue, v_jobs) with ordinality as t (id, n) order by t.n);
    end loop;
    return (select coalesce(jsonb_agg((
                       select coalesce(jsonb_agg(t.id::int8 order by t.place), '[]')
                         from unnest(v_place_all, v_ids_all) as t (place, id) where t.place >> 32 = i.n)
                   order by i.n), '[]')
              from jsonb_array_elements(i_items) with ordinality as i (item, n));
end;
$$;
