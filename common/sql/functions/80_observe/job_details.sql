-- Function: tidemill.job_details(queue_id, job_id, read_to)
--
--   What the database knows of a job that the owner of its queue does not have in its
--   window: it waits, is dead, has not been read yet, or is done with.
--
-- Parameters: i_read_to - the tick up to which the owner has read the log; null: nobody
--   owns the queue
-- Returns: null, or {"state", "attempt", "max_attempts", "time", "type", "data", "extra1",
--   "due", "holder", "failures", "result", "children", "origin"}. state: waiting, leased, dead; ready (in
--   the log, not read by the owner); done (in the log, read, and not in the window); replaced
--   (done, and there are children, the first 1,000 of them); cancelled (also one that whoever
--   reads it will cancel); unknown (in the log, but without an
--   owner, or too far behind what is read, nobody can tell)
-- Who: tidemill_dispatcher, tidemill_monitor. Locks: none. One snapshot for the whole call:
--   a job on its way from one place to another is in exactly one of them.
create or replace function tidemill.job_details(i_queue_id int4, i_job_id int8, i_read_to int8)
returns jsonb
language plpgsql
stable
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    c_tail     constant int8 := 100000;     -- events that are searched behind what the owner has read
    v_details  jsonb;
    v_default  int4;
    v_read     txid_snapshot;
    v_unread   int8;
    v_event    record;
    v_outcome  jsonb;
    v_is_tail  bool := false;               -- found behind what the owner has read
    v_from     txid_snapshot;
    v_until    txid_snapshot;
begin
    select j.max_attempts into v_default from tidemill.job_queue j where j.queue_id = i_queue_id;

    select jsonb_build_object(
               'state', case when w.kind = 'leased' and w.due > clock_timestamp() then 'leased' else 'waiting' end,
               'attempt', w.attempt, 'due', case when w.kind <> 'parked' then w.due end, 'holder', case when w.kind = 'leased' then w.holder end,
               'time', w.ev_time, 'type', w.ev_type, 'data', w.ev_data, 'extra1', w.ev_extra1)
      into v_details
      from tidemill.waiting w where w.queue_id = i_queue_id and w.job_id = i_job_id;
    if not found then
        select jsonb_build_object('state', 'dead', 'attempt', d.attempt, 'time', d.ev_time, 'type', d.ev_type,
                                  'data', d.ev_data, 'extra1', d.ev_extra1)
          into v_details
          from tidemill.dead d where d.queue_id = i_queue_id and d.job_id = i_job_id;
    end if;

    if v_details is null then
        v_outcome := tidemill.job_outcome(i_queue_id, i_job_id);
        if v_outcome ? 'cancelled' and v_outcome ? 'time' then
            v_details := v_outcome || '{"state": "cancelled"}';      -- in the waiting room: the log may not have it
        end if;
    end if;
    if v_details is null then
        select t.tick_snapshot, pgq.seq_getval(q.queue_event_seq) - t.tick_event_seq into v_read, v_unread
          from pgq.tick t join pgq.queue q on q.queue_id = t.tick_queue
         where t.tick_queue = i_queue_id and t.tick_id = i_read_to;
        if v_unread <= c_tail then
            -- Also a job that was put again: its id is old, its transaction new.
            v_event := tidemill.find_event(i_queue_id, i_job_id, v_read, null);
            v_is_tail := v_event.ev_id is not null;
        end if;
        if v_is_tail then
            v_details := '{"state": "ready"}';
        else
            -- The id lies between two ticks. Its transaction may have ended between the first one's look at the
            -- sequence and its snapshot; in the snapshot of the tick before it was still to come, or in progress.
            select coalesce(lag, t.tick_snapshot) into v_from
              from (select t.*, lag(t.tick_snapshot::text) over (order by t.tick_id)::txid_snapshot as lag
                      from (select * from pgq.tick t where t.tick_queue = i_queue_id and t.tick_event_seq < i_job_id
                               and not tidemill.is_early_tick(t) order by t.tick_id desc limit 2) t) t
             order by t.tick_id desc limit 1;
            select t.tick_snapshot into v_until
              from pgq.tick t where t.tick_queue = i_queue_id and t.tick_event_seq >= i_job_id
               and not tidemill.is_early_tick(t) order by t.tick_id limit 1;
            if v_from is null then
                return null;        -- so old that its ticks are gone
            end if;
            v_event := tidemill.find_event(i_queue_id, i_job_id, v_from, v_until);
            if v_event.ev_id is null then
                return null;
            end if;
            v_details := jsonb_build_object('state', case
                when v_read is null then 'unknown'
                when not txid_visible_in_snapshot(v_event.ev_txid, v_read) then 'ready'
                when v_unread > c_tail then 'unknown'
                else 'done' end);
        end if;
        if v_details ->> 'state' in ('done', 'unknown') and v_outcome is not null then
            v_details := v_outcome || jsonb_build_object('state', case when v_outcome ? 'children' then 'replaced'
                                                                       when v_outcome ? 'cancelled' then 'cancelled' else 'done' end);
        elsif v_details ->> 'state' = 'ready' and tidemill.is_cancelling(i_queue_id, i_job_id, v_event.ev_txid,
                  case when v_event.ev_owner is null then v_event.ev_extra1 else v_event.ev_extra1::jsonb ->> 'extra1' end) then
            v_details := '{"state": "cancelled"}';
        end if;
        v_details := v_details || jsonb_build_object(
            'attempt', case when v_details ->> 'state' in ('done', 'replaced')
                            then 1 + coalesce((select max(f.attempt) from tidemill.failure f
                                                where f.queue_id = i_queue_id and f.job_id = i_job_id), 0)
                            when v_outcome ? 'cancelled'
                            then coalesce((select max(f.attempt) from tidemill.failure f
                                            where f.queue_id = i_queue_id and f.job_id = i_job_id), 0)
                            when v_event.ev_owner is not null then (v_event.ev_extra1::jsonb ->> 'attempt')::int4
                            else 0 end,
            'time', v_event.ev_time, 'type', v_event.ev_type, 'data', v_event.ev_data,
            'extra1', case when v_event.ev_owner is null then v_event.ev_extra1
                           else v_event.ev_extra1::jsonb ->> 'extra1' end);
    end if;
    return v_details || jsonb_build_object(
        'failures', tidemill.job_failures(i_queue_id, i_job_id),
        'origin', tidemill.job_origin(i_queue_id, i_job_id),
        'max_attempts', coalesce(tidemill.option_max_attempts(v_details ->> 'extra1'), v_default));
end;
$$;
