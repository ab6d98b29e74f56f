-- Function: tidemill.stream_jobs(queue_id, jobs, job_id)
--
--   A piece of a streamed REPLACE, in its transaction, before the fence is taken. The ids of the
--   first 1,000 jobs are kept for finish_stream, in a setting that lasts as long as the
--   transaction: "tidemill.streamed", {"ids": [...], "queues": [null where it is the job's own, ...]}.
--
-- Parameters: i_jobs - as one item's "jobs" of tidemill.jobs_insert; i_job_id - the job that is replaced: one of
--   the new jobs may have its unique key (see unique_take)
-- Returns: how many there are, those included whose unique key was held
-- Errors and locks: as tidemill.jobs_insert. Who: tidemill_dispatcher.
create or replace function tidemill.stream_jobs(i_queue_id int4, i_jobs jsonb, i_job_id int8 default null)
returns int4
language plpgsql
volatile
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    c_first constant int4 := 1000;
    v_ids   jsonb;
    v_kept  jsonb;
    v_room  int4;
begin
    perform set_config('tidemill.replacing', i_queue_id || ':' || i_job_id, true);
    v_ids := tidemill.jobs_insert(i_queue_id, jsonb_build_array(jsonb_build_object('jobs', i_jobs))) -> 0;
    v_kept := coalesce(nullif(current_setting('tidemill.streamed', true), ''), '{"ids": [], "queues": []}');
    v_room := c_first - jsonb_array_length(v_kept -> 'ids');
    if v_room > 0 and v_ids <> '[]' then
        perform set_config('tidemill.streamed', (
            select jsonb_build_object('ids', (v_kept -> 'ids') || jsonb_agg(i.id order by i.n),
                                      'queues', (v_kept -> 'queues') || jsonb_agg(i_jobs -> (i.n::int4 - 1) -> 'queue' order by i.n))
              from jsonb_array_elements(v_ids) with ordinality as i (id, n) where i.n <= v_room)::text, true);
    end if;
    return jsonb_array_length(v_ids);
end;
$$;
