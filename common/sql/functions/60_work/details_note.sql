-- Function: tidemill.details_note(note, cold, answers)
--
--   Adds to a journal row's note what the details of a job show once it is done: "jobs", an
--   array of job ids as text (indexed), and "details", by job id: of a job with a result
--   {"result": text}; of a replaced one {"ids": path of its new jobs' ids within the note,
--   "queues": of the first 1,000 of these, null where it is the job's own; absent if all are}.
--
-- Parameters: i_cold, i_answers - of journal_write
-- Who: called by journal_write only, after finished_note. Locks: none.
create or replace function tidemill.details_note(i_note jsonb, i_cold jsonb, i_answers jsonb)
returns jsonb
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    with taken as (
        -- What finished_note writes, in the same order.
        select i.item, a.answer, row_number() over (order by i.n) - 1 as place
          from jsonb_array_elements(i_cold -> 'finish') with ordinality as i (item, n)
          join jsonb_array_elements(i_answers -> 'finish') with ordinality as a (answer, n) on a.n = i.n
         where a.answer in ('"ok"', '"cancelled"') or a.answer ? 'ids'
    ), told (job, ids, jobs, result) as (
        select i.item ->> 'job', jsonb_build_array('ids', i.n - 1), i.item -> 'jobs', null::jsonb
          from jsonb_array_elements(i_cold -> 'insert') with ordinality as i (item, n)
         where i.item ? 'job'       -- an older dispatcher does not say it
        union all
        select item ->> 'job', jsonb_build_array('finished', place, 3), item -> 'jobs', null
          from taken where answer ? 'ids'
        union all
        select item ->> 'job', null, null, item -> 'result'
          from taken where answer = '"ok"' and item ? 'result'
        union all
        select i.item ->> 'job', null, null, i.item -> 'result'
          from jsonb_array_elements(i_cold -> 'result') as i (item)
    )
    select case when count(*) = 0 then i_note
                else coalesce(i_note, '{}') || jsonb_build_object(
                     'jobs', jsonb_agg(t.job),
                     'details', jsonb_object_agg(t.job, jsonb_strip_nulls(jsonb_build_object('ids', t.ids, 'result', t.result,
                         'queues', (select jsonb_agg(c.job -> 'queue' order by c.n)
                                      from jsonb_array_elements(t.jobs) with ordinality as c (job, n)
                                     where c.n <= 1000 having bool_or(c.job ? 'queue')))))) end
      from told t;
$$;
