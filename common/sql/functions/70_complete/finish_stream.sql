-- Function: tidemill.finish_stream(queue_id, epoch, lease, count)
--
--   The end of a streamed REPLACE, in the transaction that inserted the new jobs: the fence,
--   then the row of the lease in the waiting room is deleted, which decides, and the journal
--   says so, and which jobs came first (as details_note does). Sent in one message with COMMIT,
--   so that no client is waited for while the fence is held. The unique key of the job is released, or
--   handed on.
--
-- Parameters: i_lease - the token; the owner moved it to the waiting room before the stream began
-- Errors: TM001 fenced; TM002 when the lease is not live (any more); 55P03 when a worker's own
--         transaction holds the row and will decide; TM006
-- Who: tidemill_dispatcher. Locks: the fence, shared; the row by SKIP LOCKED.
create or replace function tidemill.finish_stream(i_queue_id int4, i_epoch int8, i_lease text, i_count int8)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_at    timestamptz;
    v_lease record;
    v_kept  jsonb;          -- of stream_jobs; null if it never ran
    v_extra text;
    v_heir  int8;           -- of unique_take
begin
    perform tidemill.fence(i_queue_id, i_epoch);
    v_at := clock_timestamp();
    select * into v_lease from tidemill.parse_lease(i_lease);
    delete from tidemill.waiting w
     where (w.queue_id, w.job_id) in (
            select l.queue_id, l.job_id from tidemill.waiting l
             where l.queue_id = i_queue_id and l.queue_id = v_lease.o_queue_id and l.job_id = v_lease.o_job
               and l.kind = 'leased' and l.due > v_at
               and l.lease_epoch = v_lease.o_epoch and l.lease_no = v_lease.o_no and l.lease_nonce = v_lease.o_nonce
               and l.put = v_lease.o_put + 1 and l.attempt = v_lease.o_attempt
               for update skip locked)
    returning w.ev_extra1 into v_extra;
    if not found then
        if exists (select 1 from tidemill.waiting l
                    where l.queue_id = i_queue_id and l.job_id = v_lease.o_job and l.kind = 'leased' and l.due > v_at
                      and l.lease_epoch = v_lease.o_epoch and l.lease_no = v_lease.o_no) then
            raise exception 'another transaction is about to decide about lease %', i_lease using errcode = '55P03';
        end if;
        raise exception 'lease % is stale: it has ended, was finished or taken over', i_lease using errcode = 'TM002';
    end if;
    v_heir := nullif(current_setting('tidemill.heir', true), '')::int8;
    if v_heir is not null then
        update tidemill.unique_key u set job_id = v_heir where u.queue_id = i_queue_id and u.job_id = v_lease.o_job;
    elsif v_extra like '%"unique"%' then
        perform tidemill.unique_release(i_queue_id, array[v_lease.o_job]);
    end if;
    v_kept := nullif(current_setting('tidemill.streamed', true), '');
    -- Order among the flushes does not matter: it speaks of no entry of the log. \x01 is no record.
    execute format('insert into tidemill.%I (j_epoch, j_seq, j_at, j_data, j_note) values ($1, 0, $2, $3, $4)',
                   'journal_' || i_queue_id || '_' || (select q.queue_cur_table from pgq.queue q where q.queue_id = i_queue_id))
        using i_epoch, v_at, '\x01'::bytea, jsonb_build_object(
              'finished', jsonb_build_array(jsonb_build_array(v_lease.o_epoch, v_lease.o_no, 'replace', i_count)),
              'first', coalesce(v_kept -> 'ids', '[]'),
              'jobs', jsonb_build_array(v_lease.o_job::text),
              'details', jsonb_build_object(v_lease.o_job::text, jsonb_strip_nulls(jsonb_build_object(
                  'ids', jsonb_build_array('first'),
                  'queues', case when jsonb_path_exists(v_kept -> 'queues', '$[*] ? (@ != null)') then v_kept -> 'queues' end))));
end;
$$;
