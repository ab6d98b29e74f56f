-- Function: tidemill.waiting_extend(queue_id, at, items)
--
--   Extends leases that live in the waiting room, no further than the time of their attempt: the
--   one UPDATE of that table. A row whose lease does not end later by it is left as it is.
--
-- Parameters: i_items - array of {"job","put","attempt","epoch","no","nonce","ms"}
-- Returns: array, in the order given, of the lease end in microseconds since 1970 UTC,
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
        select w.job_id, w.due, w.over_at from tidemill.waiting w
         where w.queue_id = i_queue_id and w.job_id in (select found from item)
           for update skip locked
    ), lease as materialized (
        -- least and greatest pass over NULL.
        select m.job_id, m.due, least(greatest(m.due, i_at + max(item.ms) * interval '1 ms'), m.over_at) as until
          from item join mine m on m.job_id = item.found
         group by m.job_id, m.due, m.over_at
    ), extended as (
        update tidemill.waiting w
           set due = lease.until
          from lease
         where w.queue_id = i_queue_id and w.job_id = lease.job_id and lease.until > lease.due
    )
    select coalesce(jsonb_agg(coalesce((extract(epoch from lease.until) * 1000000)::int8,
                                       case when item.found is null then 0 else -1 end) order by item.n), '[]')
      from item left join lease on lease.job_id = item.found;
$$;
