-- Function: tidemill.finished_note(note, items, answers)
--
--   Adds to a journal row's note which results the waiting room took: "finished", an array of
--   [epoch, no, outcome, ids], the outcome "cancelled" where the job ended so. So a new owner still
--   answers them with already, or with cancelled.
--
-- Who: called by journal_write only. Locks: none.
create or replace function tidemill.finished_note(i_note jsonb, i_items jsonb, i_answers jsonb)
returns jsonb
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case when count(*) = 0 then i_note
                else coalesce(i_note, '{}') || jsonb_build_object('finished', jsonb_agg(
                     jsonb_build_array(i.item -> 'epoch', i.item -> 'no', case when a.answer = '"cancelled"' then a.answer else i.item -> 'outcome' end, a.answer -> 'ids') order by i.n)) end
      from jsonb_array_elements(i_items) with ordinality as i (item, n)
      join jsonb_array_elements(i_answers) with ordinality as a (answer, n) on a.n = i.n
     where a.answer in ('"ok"', '"cancelled"') or a.answer ? 'ids';
$$;
