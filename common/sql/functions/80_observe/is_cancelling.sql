-- Function: tidemill.is_cancelling(queue_id, job_id, txid, extra1)
--
--   Will whoever reads this entry of the log cancel it? By its id, or by the key in its options if the
--   cancellation's snapshot sees the transaction that wrote it.
--
-- Who: called by job_details only. Locks: none.
create or replace function tidemill.is_cancelling(i_queue_id int4, i_job_id int8, i_txid int8, i_extra1 text)
returns bool
language sql
stable
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
    select exists (select 1 from tidemill.cancelling c where c.queue_id = i_queue_id and c.job_id = i_job_id)
        or exists (select 1 from tidemill.cancellation c
                    where c.queue_id = i_queue_id and c.cancel_key = tidemill.option_cancel_key(i_extra1)
                      and txid_visible_in_snapshot(i_txid, c.snapshot));
$$;
