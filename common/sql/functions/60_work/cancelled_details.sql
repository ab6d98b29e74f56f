-- Function: tidemill.cancelled_details(waiting row, code)
--
--   What the details of a job show that was cancelled in the waiting room: the log may not have it.
--
-- Returns: {"job","cancelled","attempt","time","type","data","extra1"}, an item of cancel_note
-- Who: internal. Locks: none.
create or replace function tidemill.cancelled_details(w tidemill.waiting, i_code int4)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select jsonb_strip_nulls(jsonb_build_object(
        'job', w.job_id, 'cancelled', i_code, 'attempt', w.attempt, 'time', w.ev_time,
        'type', w.ev_type, 'data', w.ev_data, 'extra1', w.ev_extra1));
$$;
