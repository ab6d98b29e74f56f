-- Function: tidemill.dead_add(queue_id, at, items)
--
--   Moves entries from the log to the dead letters.
--
-- Parameters: i_items - array of {"job","put","attempt","reason","message","time","type","data","x1".."x4"}
-- Who: called by journal_write only, behind the fence. Locks: none.
create or replace function tidemill.dead_add(i_queue_id int4, i_at timestamptz, i_items jsonb)
returns void
language sql
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
    insert into tidemill.dead (queue_id, job_id, put, attempt, at, reason, message,
                               ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)
    select i_queue_id, i.job, i.put, i.attempt, i_at, i.reason, i.message,
           'epoch'::timestamptz + i.time * interval '1 microsecond', i.type, i.data, i.x1, i.x2, i.x3, i.x4
      from jsonb_to_recordset(i_items) as i (job int8, put int4, attempt int4, reason text, message text,
           time int8, type text, data text, x1 text, x2 text, x3 text, x4 text);
$$;
