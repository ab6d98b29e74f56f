-- Function: tidemill.waiting_finish(queue_id, at, items)
--
--   Results of leases that live in the waiting room: whoever removes the row under its
--   lease decides. complete removes it; replace removes it and inserts its jobs; temp_fail puts it back as a retry (or, attempts
--   exhausted, among the dead); perm_fail moves it to the dead; decline makes it due at
--   once with the attempt not counted. Of a job that is being cancelled temp_fail and decline are the end.
--   Who comes to an end releases its unique key.
--
-- Parameters: i_items - array of {"job","put","attempt","epoch","no","nonce","outcome","delay_ms","message",
--   "jobs","result","cancel"}; jobs of a replace, as for tidemill.jobs_insert; the result is details_note's;
--   cancel is the code of a job that is being cancelled
-- Returns: array, in the order given, of 'ok', {"ids": [...]} (a replace, ok), 'stale' (no such live
--          lease), 'cancelled', or 'unavailable' (a worker's own transaction holds the row and will decide)
-- Who: called by journal_write only, behind the fence. Locks: SKIP LOCKED on the rows.
create or replace function tidemill.waiting_finish(i_queue_id int4, i_at timestamptz, i_items jsonb)
returns jsonb
language plpgsql
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_item    record;
    v_row     tidemill.waiting;
    v_default int4;
    v_max     int4;
    v_answers jsonb := '[]';
begin
    select j.max_attempts into v_default from tidemill.job_queue j where j.queue_id = i_queue_id;
    for v_item in
        select * from jsonb_to_recordset(i_items)
            as i (job int8, put int4, attempt int4, epoch int8, no int8, nonce int8, outcome text, delay_ms int8, message text, jobs jsonb, cancel int4)
    loop
        delete from tidemill.waiting w
         where (w.queue_id, w.job_id) in (
                select l.queue_id, l.job_id from tidemill.waiting l
                 where l.queue_id = i_queue_id and l.job_id = v_item.job and l.kind = 'leased' and l.due > i_at
                   and l.lease_epoch = v_item.epoch and l.lease_no = v_item.no and l.lease_nonce = v_item.nonce
                   and l.put = v_item.put + 1 and l.attempt = v_item.attempt
                   for update skip locked)
        returning w.* into v_row;
        if not found then
            v_answers := v_answers || to_jsonb(case when exists (
                select 1 from tidemill.waiting l
                 where l.queue_id = i_queue_id and l.job_id = v_item.job and l.kind = 'leased' and l.due > i_at
                   and l.lease_epoch = v_item.epoch and l.lease_no = v_item.no and l.lease_nonce = v_item.nonce)
                then 'unavailable' else 'stale' end);
            continue;
        end if;
        if v_item.cancel is not null then
            delete from tidemill.cancelling c where c.queue_id = i_queue_id and c.job_id = v_item.job;
        end if;
        if v_row.ev_extra1 like '%"unique"%' then
            -- Before the jobs of a replace: one of them may have the same key.
            v_max := coalesce(tidemill.option_max_attempts(v_row.ev_extra1), v_default);
            if v_item.cancel is not null or v_item.outcome in ('complete', 'replace', 'perm_fail')
               or (v_item.outcome = 'temp_fail' and v_row.attempt >= v_max)
            then
                perform tidemill.unique_release(i_queue_id, array[v_item.job]);
            end if;
        end if;
        if v_item.outcome = 'replace' then
            v_answers := v_answers || jsonb_build_array(jsonb_build_object(
                'ids', tidemill.jobs_insert(i_queue_id, jsonb_build_array(jsonb_build_object('jobs', v_item.jobs))) -> 0));
            continue;
        end if;
        v_answers := v_answers || to_jsonb(case when v_item.cancel is not null and v_item.outcome in ('temp_fail', 'decline')
                                                then 'cancelled' else 'ok' end);
        if v_item.outcome = 'complete' then
            continue;
        end if;
        v_max := coalesce(tidemill.option_max_attempts(v_row.ev_extra1), v_default);
        if v_item.outcome in ('temp_fail', 'perm_fail') then
            insert into tidemill.failure (queue_id, job_id, attempt, at, reason, message, holder)
            values (i_queue_id, v_item.job, v_row.attempt, i_at, 'failed', coalesce(v_item.message, ''), v_row.holder);
        end if;
        if v_item.cancel is not null and v_item.outcome in ('temp_fail', 'decline') then
            continue;
        end if;
        if v_item.outcome = 'perm_fail' or (v_item.outcome = 'temp_fail' and v_row.attempt >= v_max) then
            insert into tidemill.dead (queue_id, job_id, put, attempt, at, reason, message,
                                       ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)
            values (i_queue_id, v_item.job, v_row.put, v_row.attempt, i_at,
                    case when v_item.outcome = 'perm_fail' then 'perm_fail' else 'exhausted' end, coalesce(v_item.message, ''),
                    v_row.ev_time, v_row.ev_type, v_row.ev_data, v_row.ev_extra1, v_row.ev_extra2, v_row.ev_extra3, v_row.ev_extra4);
            continue;
        end if;
        insert into tidemill.waiting (queue_id, job_id, put, attempt, kind, due, previous, cancel_key,
                                      ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)
        values (i_queue_id, v_item.job, v_row.put,
                v_row.attempt - case when v_item.outcome = 'decline' then 1 else 0 end, 'retry',
                i_at + coalesce(v_item.delay_ms, 0) * interval '1 ms',
                coalesce(v_row.holder, '{}') || jsonb_build_object(
                    'ended', case when v_item.outcome = 'decline' then 'declined' else 'failed' end, 'at', i_at),
                v_row.cancel_key, v_row.ev_time, v_row.ev_type, v_row.ev_data, v_row.ev_extra1, v_row.ev_extra2, v_row.ev_extra3, v_row.ev_extra4);
    end loop;
    return v_answers;
end;
$$;
