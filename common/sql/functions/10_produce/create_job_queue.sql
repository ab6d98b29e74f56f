-- Function: tidemill.create_job_queue(queue, settings)
--
--   Makes a queue a job queue: creates the pgq queue where it is absent, registers the
--   consumer 'tidemill.dispatcher' (its cursor is the low-water mark, so that rotation
--   honours it), and creates the journal tables beside the event tables.
--
-- Parameters: i_settings - {"lease_ms","max_attempts","backoff","backoff_base_ms","backoff_cap_ms", …}, any subset;
--   backoff is "exponential" (by base and cap) or "mail"; "window_jobs","window_bytes": what the owner holds in memory,
--   0: as its dispatcher is configured; "limits": as check_limits, in place of all former ones, {}: none;
--   "doorbell": true, its producers end the ticker's sleep
-- Returns: 1 - created, 0 - it was a job queue already (settings are then applied to it)
-- Errors: 22023 for an unknown setting; check violations for values out of range
-- Who: pgq_admin, tidemill_dispatcher. Locks: the queue-DDL advisory lock until the end of the transaction.
create or replace function tidemill.create_job_queue(i_queue text, i_settings jsonb default '{}')
returns int4
language plpgsql
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_queue  record;
    v_sub_id int4;
    v_key    text;
    v_new    int4 := 0;
    v_table  text;
begin
    for v_key in select k from jsonb_object_keys(coalesce(i_settings, '{}')) k loop
        if v_key not in ('lease_ms', 'max_attempts', 'backoff', 'backoff_base_ms', 'backoff_cap_ms', 'window_jobs', 'window_bytes', 'limits', 'doorbell') then
            raise exception 'unknown job queue setting "%": known are lease_ms, max_attempts, backoff, backoff_base_ms, backoff_cap_ms, window_jobs, window_bytes, limits, doorbell', v_key
                using errcode = '22023';
        end if;
    end loop;

    perform pg_advisory_xact_lock(7465004);
    perform pgq.create_queue(i_queue);
    if i_settings ? 'doorbell' then
        -- Before the subscription's row, as everybody locks them; and no rotation writes the queue's function meanwhile.
        perform 1 from pgq.queue q where q.queue_name = i_queue for no key update;
    end if;
    perform pgq.register_consumer(i_queue, 'tidemill.dispatcher');

    select q.queue_id, q.queue_ntables, q.queue_data_pfx into strict v_queue
      from pgq.queue q where q.queue_name = i_queue;
    select s.sub_id into strict v_sub_id
      from pgq.subscription s join pgq.consumer c on c.co_id = s.sub_consumer
     where s.sub_queue = v_queue.queue_id and c.co_name = 'tidemill.dispatcher';

    if not exists (select 1 from tidemill.job_queue j where j.queue_id = v_queue.queue_id) then
        insert into tidemill.job_queue (queue_id, sub_id) values (v_queue.queue_id, v_sub_id);
        insert into tidemill.owner (queue_id) values (v_queue.queue_id);
        for n in 0 .. v_queue.queue_ntables - 1 loop
            v_table := format('journal_%s_%s', v_queue.queue_id, n);
            execute format('create table tidemill.%I (like tidemill.journal_template including defaults) '
                           'with (fillfactor = 100, autovacuum_enabled = off, toast.autovacuum_enabled = off)', v_table);
            execute format('create index %I on tidemill.%I (j_txid)', v_table || '_txid_idx', v_table);
            -- By the jobs that a note speaks of, for job_outcome; a row without such a note is not in it.
            execute format('create index %I on tidemill.%I using gin ((j_note -> ''jobs'')) with (fastupdate = off) '
                           'where j_note ? ''jobs''', v_table || '_jobs_idx', v_table);
            execute format('revoke all on tidemill.%I from public', v_table);
        end loop;
        v_new := 1;
    end if;

    update tidemill.job_queue j
       set lease_ms        = coalesce((i_settings ->> 'lease_ms')::int4, j.lease_ms),
           max_attempts    = coalesce((i_settings ->> 'max_attempts')::int4, j.max_attempts),
           backoff         = coalesce(i_settings ->> 'backoff', j.backoff),
           backoff_base_ms = coalesce((i_settings ->> 'backoff_base_ms')::int4, j.backoff_base_ms),
           backoff_cap_ms  = coalesce((i_settings ->> 'backoff_cap_ms')::int4, j.backoff_cap_ms),
           window_jobs     = nullif(coalesce((i_settings ->> 'window_jobs')::int4, j.window_jobs), 0),
           window_bytes    = nullif(coalesce((i_settings ->> 'window_bytes')::int8, j.window_bytes), 0),
           limits          = case when i_settings ? 'limits' then tidemill.check_limits(i_settings -> 'limits') else j.limits end,
           doorbell        = coalesce((i_settings ->> 'doorbell')::bool, j.doorbell)
     where j.queue_id = v_queue.queue_id and coalesce(i_settings, '{}') <> '{}';
    if i_settings ? 'doorbell' and tidemill.owns_pgq() then
        perform tidemill.make_insert_queue(v_queue.queue_id);
    end if;
    return v_new;
end;
$$;
