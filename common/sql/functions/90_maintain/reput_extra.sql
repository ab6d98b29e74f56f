-- Function: tidemill.reput_extra(waiting row)
--
--   ev_extra1 of a re-put entry: {"attempt": n, "previous": {...}, "extra1": the original}.
--   The reader takes it apart again, so that the worker sees its extras untouched.
--
-- Who: internal. Locks: none.
create or replace function tidemill.reput_extra(w tidemill.waiting)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select jsonb_strip_nulls(jsonb_build_object(
        'attempt', w.attempt,
        'previous', case when w.kind = 'leased'
                         then coalesce(w.holder, '{}') || jsonb_build_object('ended', 'expired', 'at', w.due)
                         else w.previous end,
        'extra1', w.ev_extra1))::text;
$$;
