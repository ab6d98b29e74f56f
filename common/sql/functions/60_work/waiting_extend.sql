-- Function: tidemill.waiting_extend(queue_id, at, items)
--
--   Extends leases that live in the waiting room: the one UPDATE of that table.
--
-- Parameters: i_items - array of {"job","put","attempt","epoch","no","nonce","ms"}
-- Returns: array, in the order given, of the new lease end in microseconds since 1970 UTC,
--          0 where the lease is no longer live (stale), -1 where a worker's open transaction
--          is about to decide (unavailable)
-- Who: called by journal_write only, behind the fence. Locks: SKIP LOCKED on the rows.
create or replace function tidemill.waiting_extend(i_queue_id int4, i_at timestamptz, i_items jsonb)
returns jsonb
language sql
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
    with item as materialized (
        select w.job_id as found, i.*
          from rows from (jsonb_to_recordset(i_items)
               as (job int8, put int4, attempt int4, epoch int8, no int8, nonce int8, ms int8)) with ordinality
               as i (job, put, attempt, epoch, no, nonce, ms, n)
          left join tidemill.waiting w
            on w.queue_id = i_queue_id and w.job_id = i.job and w.kind = 'leased' and w.due > i_at
           and w.lease_epoch = i.epoch and w.lease_no = i.no and w.lease_nonce = i.nonce
           and w.put = i.put + 1 and w.attempt = i.attempt
    ), mine as materialized (
        select w.job_id from tidemill.waiting w
         where w.queue_id = i_queue_id and w.job_id in (select found from item)
           for update skip locked
    ), extended as (
        update tidemill.waiting w
           set due = greatest(w.due, i_at + item.ms * interval '1 ms')
          from item join mine on mine.job_id = item.found
         where w.queue_id = i_queue_id and w.job_id = item.found and w.lease_no = item.no
        returning w.job_id, (extract(epoch from w.due) * 1000000)::int8 as until
    )
    select coalesce(jsonb_agg(coalesce(e.until, case when item.found is null then 0 else -1 end) order by item.n), '[]')
      from item left join extended e on e.job_id = item.found;
$$;
