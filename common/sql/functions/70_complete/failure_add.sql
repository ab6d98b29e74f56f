-- Function: tidemill.failure_add(queue_id, at, items)
--
--   Records failed attempts, append only.
--
-- Parameters: i_items - array of {"job","attempt","reason","message","holder"}
-- Who: called by journal_write only, behind the fence. Locks: none.
create or replace function tidemill.failure_add(i_queue_id int4, i_at timestamptz, i_items jsonb)
returns void
language sql
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
    insert into tidemill.failure (queue_id, job_id, attempt, at, reason, message, holder)
    select i_queue_id, i.job, i.attempt, i_at, i.reason, i.message, i.holder
      from jsonb_to_recordset(i_items) as i (job int8, attempt int4, reason text, message text, holder jsonb);
$$;
