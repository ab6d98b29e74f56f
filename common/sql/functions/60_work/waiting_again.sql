-- Function: tidemill.waiting_again(queue_id, at, items)
--
--   The jobs of leases that live in the waiting room, for a repeated grab.
--
-- Parameters: i_items - array of {"job","put","attempt","epoch","no","nonce"}
-- Returns: array, in the order given, of null (the lease is not live) or {"until","time","previous",
--          "type","data","x1".."x4","origin"}; until and time in microseconds since 1970 UTC
-- Who: called by journal_write only. Locks: none.
create or replace function tidemill.waiting_again(i_queue_id int4, i_at timestamptz, i_items jsonb)
returns jsonb
language sql
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
    select coalesce(jsonb_agg(case when w.job_id is not null then jsonb_build_object(
               'until', (extract(epoch from w.due) * 1000000)::int8, 'time', (extract(epoch from w.ev_time) * 1000000)::int8,
               'previous', w.previous, 'type', w.ev_type, 'data', w.ev_data,
               'x1', w.ev_extra1, 'x2', w.ev_extra2, 'x3', w.ev_extra3, 'x4', w.ev_extra4,
               'origin', tidemill.job_origin(i_queue_id, w.job_id)) end order by i.n), '[]')
      from rows from (jsonb_to_recordset(i_items)
           as (job int8, put int4, attempt int4, epoch int8, no int8, nonce int8)) with ordinality
           as i (job, put, attempt, epoch, no, nonce, n)
      left join tidemill.waiting w
        on w.queue_id = i_queue_id and w.job_id = i.job and w.kind = 'leased' and w.due > i_at
       and w.lease_epoch = i.epoch and w.lease_no = i.no and w.lease_nonce = i.nonce
       and w.put = i.put + 1 and w.attempt = i.attempt;
$$;
