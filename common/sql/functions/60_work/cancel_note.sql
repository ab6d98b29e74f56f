-- Function: tidemill.cancel_note(note, items)
--
--   Adds to a journal row's note which jobs ended as cancelled, as details_note does for what its jobs
--   left: "jobs", and by job in "details" the item without its "job".
--
-- Parameters: i_items - array of {"job","cancelled": code, …}
-- Who: called by journal_write only, after details_note. Locks: none.
create or replace function tidemill.cancel_note(i_note jsonb, i_items jsonb)
returns jsonb
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case when count(*) = 0 then i_note
                else coalesce(i_note, '{}') || jsonb_build_object(
                     'jobs', coalesce(i_note -> 'jobs', '[]') || jsonb_agg(item ->> 'job'),
                     'details', coalesce(i_note -> 'details', '{}') || jsonb_object_agg(item ->> 'job', item - 'job')) end
      from jsonb_array_elements(i_items) item;
$$;
