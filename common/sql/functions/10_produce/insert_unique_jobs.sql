-- Function: tidemill.insert_unique_jobs(queue, jobs)
--
--   As tidemill.insert_jobs, for jobs some of which have a unique key: one whose key is held is not
--   inserted. The keys are part of the caller's transaction, like the jobs.
--
-- Parameters: i_jobs - as for insert_jobs; "unique": {"key": text of 1 to 255 bytes, "scope": "unfinished"}
-- Returns: one row per job, in the order given: the id, and whether that is a job that was there
-- Errors: as insert_jobs; 55P03 when another open transaction has the same key for longer than a second
--         (or lock_timeout, if that is shorter); inside of an owner's flush, where everybody waits, 22023 after 50 ms
-- Who: pgq_writer, tidemill_producer, tidemill_dispatcher. Locks: see unique_take.
create or replace function tidemill.insert_unique_jobs(i_queue text, i_jobs jsonb)
returns table (id text, duplicate bool)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_in_flush constant bool := coalesce(current_setting('tidemill.in_flush', true), '') = 'on';
    v_timeout  constant text := current_setting('lock_timeout');
    v_limit    constant interval := case when v_in_flush then '50ms' else '1s' end;
    v_queue    record;
    v_job      record;
    v_taken    record;
    v_ids      int8[];
    v_there    bool[];
begin
    -- The transaction id, and whether it is a job queue; its row in a later statement, as every direct writer must.
    perform tidemill.insert_jobs(i_queue, '[]');
    select q.queue_id, q.queue_event_seq::regclass as event_seq,
           pgq.quote_fqname(q.queue_data_pfx || '_' || q.queue_cur_table::text) as event_table
      into v_queue from pgq.queue q where q.queue_name = i_queue;
    v_ids := array_fill(null::int8, array[jsonb_array_length(i_jobs)]);
    v_there := array_fill(false, array[jsonb_array_length(i_jobs)]);
    begin
        if v_timeout::interval = '0' or v_timeout::interval > v_limit then
            perform set_config('lock_timeout', (extract(epoch from v_limit) * 1000)::int4::text, true);
        end if;
        -- The keys in one order: so two calls do not wait for each other.
        for v_job in
            select a.n, a.e #> '{options,unique}' as wanted, a.e #>> '{options,unique,key}' as key
              from jsonb_array_elements(i_jobs) with ordinality as a (e, n)
             where nullif(a.e #> '{options,unique}', 'null') is not null
             order by a.e #>> '{options,unique,key}' collate "C", a.n
        loop
            if jsonb_typeof(v_job.wanted) <> 'object' or jsonb_typeof(v_job.wanted -> 'key') is distinct from 'string'
               or octet_length(v_job.key) not between 1 and 255 or coalesce(v_job.wanted ->> 'scope', '') not in ('', 'unfinished')
               or v_job.wanted - 'key' - 'scope' <> '{}'
            then
                raise exception '"unique" must be {"key": text of 1 to 255 bytes, "scope": "unfinished"}' using errcode = '22023';
            end if;
            select * into v_taken from tidemill.unique_take(v_queue.queue_id, v_queue.event_seq, v_job.key);
            v_ids[v_job.n] := v_taken.o_job;
            v_there[v_job.n] := not v_taken.o_is_new;
        end loop;
        perform set_config('lock_timeout', v_timeout, true);
    exception when lock_not_available then
        raise exception 'another transaction has the unique key "%" of queue "%" and is still open: repeat this later', v_job.key, i_queue
            using errcode = case when v_in_flush then '22023' else '55P03' end;
    end;
    return query execute format(
        'with job as materialized (
             select coalesce(t.id, nextval($1)) as id, t.there, a.n, e ->> ''type'' as type,
                    coalesce((e -> ''args'')::text, ''null'') as args, nullif(e -> ''options'', ''null'')::text as options,
                    coalesce((e -> ''options'' ->> ''run_at'')::timestamptz,
                             clock_timestamp() + (e -> ''options'' ->> ''delay_ms'')::float8 * interval ''1 ms'') as due,
                    (e -> ''options'' ->> ''cancel_key'')::int8 as cancel_key
               from jsonb_array_elements($2) with ordinality as a (e, n)
               join unnest($4, $5) with ordinality as t (id, there, n) on t.n = a.n order by a.n),
         later as (
             insert into tidemill.waiting (queue_id, job_id, put, kind, due, ev_time, ev_type, ev_data, ev_extra1, cancel_key)
             select $3, j.id, 0, ''delayed'', j.due, now(), j.type, j.args, j.options, j.cancel_key
               from job j where j.due > clock_timestamp() and not j.there
             returning job_id),
         ready as (
             insert into %s (ev_id, ev_time, ev_type, ev_data, ev_extra1)
             select j.id, now(), j.type, j.args, j.options
               from job j where not j.there and j.id not in (select l.job_id from later l))
         select j.id::text, j.there from job j order by j.n', v_queue.event_table)
        using v_queue.event_seq, i_jobs, v_queue.queue_id, v_ids, v_there;
    if found and tidemill.ticker_sleeps() then
        perform tidemill.ring_doorbell(i_queue);
    end if;
end;
$$;
