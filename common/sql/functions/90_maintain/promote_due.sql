-- Function: tidemill.promote_due(limit)
--
--   Puts what is due back into the log: delayed jobs whose time has come, retries whose
--   back-off is over, and leases of the waiting room that ended. Delete and insert are one
--   transaction. Re-put entries carry the queue's sub_id as ev_owner, so that other
--   consumers do not see them twice, and what the engine must know in ev_extra1.
--
-- Parameters: i_limit - at most so many per call; call again while it returns that many
-- Returns: how many were put into the log
-- Who: tidemill_ticker. Locks: SKIP LOCKED on the rows; never waits for a worker's transaction.
create or replace function tidemill.promote_due(i_limit int4)
returns int4
language plpgsql
volatile
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_due   tidemill.waiting[];
    v_queue record;
begin
    -- The delete takes the transaction id; the names of the current tables are read in
    -- later statements, as every direct writer must.
    with due as materialized (
        select w.queue_id, w.job_id from tidemill.waiting w
         where w.due <= clock_timestamp() order by w.due limit i_limit
           for update skip locked
    ), gone as (
        delete from tidemill.waiting w using due
         where w.queue_id = due.queue_id and w.job_id = due.job_id
        returning w as entry
    )
    select array_agg(gone.entry) into v_due from gone;
    if v_due is null then
        return 0;
    end if;

    insert into tidemill.failure (queue_id, job_id, attempt, reason, message, holder)
    select w.queue_id, w.job_id, w.attempt, 'expired', 'the lease ended without a result', w.holder
      from unnest(v_due) w where w.kind = 'leased';

    for v_queue in
        select q.queue_id, j.sub_id, q.queue_event_seq::regclass as event_seq,
               pgq.quote_fqname(q.queue_data_pfx || '_' || q.queue_cur_table::text) as event_table
          from pgq.queue q join tidemill.job_queue j on j.queue_id = q.queue_id
         where q.queue_id in (select (unnest(v_due)).queue_id)
    loop
        execute format(
            'insert into %s (ev_id, ev_time, ev_owner, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)
             select w.job_id, w.ev_time, case when w.put > 0 then $2 end, nullif(w.put, 0), w.ev_type, w.ev_data,
                    case when w.put = 0 then w.ev_extra1 else tidemill.reput_extra(w) end,
                    w.ev_extra2, w.ev_extra3, w.ev_extra4
               from unnest($1) w where w.queue_id = $3 order by w.due', v_queue.event_table)
            using v_due, v_queue.sub_id, v_queue.queue_id;
        -- The entries keep their ids; the sequence moves as well, so that the ticker sees that something came.
        perform nextval(v_queue.event_seq);
    end loop;
    return array_length(v_due, 1);
end;
$$;
