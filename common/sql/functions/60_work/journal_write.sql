-- Function: tidemill.journal_write(queue_id, epoch, seq, data, cold)
--
--   One flush of a job queue's owner, in autocommit: fence, then what enters or leaves the
--   waiting room and which jobs are new, then one journal row for everything that happened
--   to entries since the last flush. Either all of it is committed or nothing.
--
-- Parameters:
--   i_seq   - number of the flush within the epoch, rising
--   i_data  - encoded records (dispatcher/src/engine/record.rs), NULL when there are none
--   i_cold  - NULL, or {"release": [job ids], "wait": [...], "dead": [...], "fail": [...], "insert": [...], "finish": [...],
--             "result": [...], "extend": [...], "again": [...], "cancel": [...], "cancelled": [...], "ended": [...],
--             "prune": [true, ...], "unpark": [...]}, the arguments of unique_release, waiting_add, dead_add, failure_add,
--             jobs_insert, waiting_finish, details_note, waiting_extend, waiting_again, cancel_jobs,
--             cancel_note, cancel_ended, cancel_prune, unpark, carried out in this order; "result" of {"job",
--             "result": text}; "cancelled" of {"job", "cancelled": code}
-- Returns: o_at - clock_timestamp() behind the fence, what lease ends are counted from;
--          o_answers - {"insert": [...], "finish": [...], "extend": [...], "again": [...], "cancel": [...],
--                      "prune": [...], "unpark": [...]} in the order given, NULL without i_cold
-- Errors: TM001 fenced, TM004, TM006; class 22 when an item holds data PostgreSQL refuses
-- Who: tidemill_dispatcher. Locks: the fence, shared; waiting rows by SKIP LOCKED only.
create or replace function tidemill.journal_write(i_queue_id int4, i_epoch int8, i_seq int8, i_data bytea, i_cold jsonb,
    out o_at timestamptz, out o_answers jsonb)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_note   jsonb;
    v_cancel record;
begin
    perform tidemill.fence(i_queue_id, i_epoch);
    o_at := clock_timestamp();
    if i_cold is not null then
        if i_cold ? 'release' then
            -- First: one of the jobs may be replaced by one with the same key.
            perform tidemill.unique_release(i_queue_id, array(select j::int8 from jsonb_array_elements_text(i_cold -> 'release') j));
        end if;
        perform tidemill.waiting_add(i_queue_id, o_at, i_cold -> 'wait');
        perform tidemill.dead_add(i_queue_id, o_at, i_cold -> 'dead');
        perform tidemill.failure_add(i_queue_id, o_at, i_cold -> 'fail');
        o_answers := '{}';
        if i_cold ?| array['insert', 'finish'] then
            -- insert_unique_jobs shall not wait for long: everybody else's answers wait for this flush.
            perform set_config('tidemill.in_flush', 'on', true);
        end if;
        if i_cold ? 'insert' then
            o_answers := jsonb_build_object('insert', tidemill.jobs_insert(i_queue_id, i_cold -> 'insert'));
            v_note := jsonb_build_object('ids', o_answers -> 'insert');
        end if;
        if i_cold ? 'finish' then
            o_answers := o_answers || jsonb_build_object('finish', tidemill.waiting_finish(i_queue_id, o_at, i_cold -> 'finish'));
            v_note := tidemill.finished_note(v_note, i_cold -> 'finish', o_answers -> 'finish');
        end if;
        if i_cold ?| array['insert', 'finish', 'result'] then
            v_note := tidemill.details_note(v_note, i_cold, o_answers);
        end if;
        if jsonb_path_exists(i_cold, '$.finish[*].cancel') then
            v_note := tidemill.cancel_note(v_note, (
                select jsonb_agg(jsonb_build_object('job', i.item -> 'job', 'cancelled', i.item -> 'cancel'))
                  from jsonb_array_elements(i_cold -> 'finish') with ordinality as i (item, n)
                  join jsonb_array_elements(o_answers -> 'finish') with ordinality as a (answer, n) on a.n = i.n
                 where a.answer = '"cancelled"'));
        end if;
        if i_cold ? 'extend' then
            o_answers := o_answers || jsonb_build_object('extend', tidemill.waiting_extend(i_queue_id, o_at, i_cold -> 'extend'));
        end if;
        if i_cold ? 'again' then
            o_answers := o_answers || jsonb_build_object('again', tidemill.waiting_again(i_queue_id, o_at, i_cold -> 'again'));
        end if;
        if i_cold ? 'cancel' then
            select * into v_cancel from tidemill.cancel_jobs(i_queue_id, o_at, i_cold -> 'cancel');
            o_answers := o_answers || jsonb_build_object('cancel', v_cancel.o_answers);
            v_note := tidemill.cancel_note(v_note, v_cancel.o_ended);
        end if;
        if i_cold ? 'cancelled' then
            v_note := tidemill.cancel_note(v_note, i_cold -> 'cancelled');
        end if;
        if i_cold ? 'ended' then
            perform tidemill.cancel_ended(i_queue_id, i_cold -> 'ended');
        end if;
        if i_cold ? 'prune' then
            o_answers := o_answers || jsonb_build_object('prune', jsonb_build_array(tidemill.cancel_prune(i_queue_id)));
        end if;
        if i_cold ? 'unpark' then
            o_answers := o_answers || jsonb_build_object('unpark', tidemill.unpark(i_queue_id, i_cold -> 'unpark'));
        end if;
    end if;
    if i_data is not null or v_note is not null then
        -- Rotation changes the current table under the exclusive fence: read here, it holds. \x01 is no record.
        execute format('insert into tidemill.%I (j_epoch, j_seq, j_at, j_data, j_note) values ($1, $2, $3, $4, $5)',
                       'journal_' || i_queue_id || '_' || (select q.queue_cur_table from pgq.queue q where q.queue_id = i_queue_id))
            using i_epoch, i_seq, o_at, coalesce(i_data, '\x01'), v_note;
    end if;
end;
$$;
