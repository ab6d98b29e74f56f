-- Function: tidemill.waiting_add(queue_id, at, items)
--
--   Moves entries from the log into the waiting room: to be retried, with their lease, or
--   parked.
--
-- Parameters: i_items - array of {"job","put","attempt","kind","due_ms","due","epoch","no","nonce","over_ms","over_at",
--   "holder","previous","time","type","data","x1".."x4","cancel_key","parked_key"}; due is "due" (of a lease that was
--   granted before) or due_ms after i_at, for parked ones never; the time of an attempt with a timeout is over at
--   "over_at", or over_ms after i_at; "due", "over_at" and "time" are microseconds since 1970 UTC
-- Who: called by journal_write only, behind the fence. Locks: none.
create or replace function tidemill.waiting_add(i_queue_id int4, i_at timestamptz, i_items jsonb)
returns void
language sql
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
    insert into tidemill.waiting (queue_id, job_id, put, attempt, kind, due, over_at, lease_epoch, lease_no, lease_nonce,
                                  holder, previous, ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4, cancel_key, parked_key)
    select i_queue_id, i.job, i.put, i.attempt, i.kind,
           case when i.kind = 'parked' then 'infinity'
                when i.due is not null then 'epoch'::timestamptz + i.due * interval '1 microsecond'
                else i_at + i.due_ms * interval '1 ms' end,
           coalesce('epoch'::timestamptz + i.over_at * interval '1 microsecond', i_at + i.over_ms * interval '1 ms'),
           i.epoch, i.no, i.nonce,
           i.holder, i.previous, 'epoch'::timestamptz + i.time * interval '1 microsecond',
           i.type, i.data, i.x1, i.x2, i.x3, i.x4, i.cancel_key, i.parked_key
      from jsonb_to_recordset(i_items) as i (job int8, put int4, attempt int4, kind text, due_ms int8, due int8, over_ms int8, over_at int8,
           epoch int8, no int8, nonce int8, holder jsonb, previous jsonb, time int8, type text, data text, x1 text, x2 text, x3 text, x4 text,
           cancel_key int8, parked_key text);
$$;
