-- Function: tidemill.put_back(rows)
--
--   Puts rows that were deleted from the waiting room into the log, in this transaction. Re-put
--   entries carry the queue's sub_id as ev_owner, so that other consumers do not see them
--   twice, and what the engine must know in ev_extra1.
--
-- Who: called by promote_due and unpark, after their delete: it took the transaction id, and the
--      names of the current tables are read here, in later statements, as every direct writer must.
-- Locks: none.
create or replace function tidemill.put_back(i_rows tidemill.waiting[])
returns void
language plpgsql
volatile
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_queue record;
begin
    for v_queue in
        select q.queue_id, j.sub_id, q.queue_event_seq::regclass as event_seq,
               pgq.quote_fqname(q.queue_data_pfx || '_' || q.queue_cur_table::text) as event_table
          from pgq.queue q join tidemill.job_queue j on j.queue_id = q.queue_id
         where q.queue_id in (select (unnest(i_rows)).queue_id)
    loop
        execute format(
            'insert into %s (ev_id, ev_time, ev_owner, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)
             select w.job_id, w.ev_time, case when w.put > 0 then $2 end, nullif(w.put, 0), w.ev_type, w.ev_data,
                    case when w.put = 0 then w.ev_extra1 else tidemill.reput_extra(w) end,
                    w.ev_extra2, w.ev_extra3, w.ev_extra4
               from unnest($1) w where w.queue_id = $3 order by w.due, w.job_id', v_queue.event_table)
            using i_rows, v_queue.sub_id, v_queue.queue_id;
        -- The entries keep their ids; the sequence moves as well, so that the ticker sees that something came.
        perform nextval(v_queue.event_seq);
    end loop;
end;
$$;
