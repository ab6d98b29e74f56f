-- Function: tidemill.insert_jobs(queue, jobs)
--
--   Puts jobs into a job queue, in the caller's own transaction: they exist when it
--   commits, and never if it rolls back.
--
-- Parameters: i_jobs - JSON array of {"type", "args", "options"}; options as stored in
--   ev_extra1: {"run_at": RFC 3339, "delay_ms": n, "max_attempts": n, "timeout_ms": n, "cancel_key": "n", "unique": {"key": text}}. A job
--   with run_at or delay_ms goes to the waiting room, every other one straight into the log.
-- Returns: one job id (decimal) per job, in the order given; of one whose unique key is held, the id of the job that is there
-- Errors: TM004 when the queue is not a job queue; 22023 when a job has no type
-- Who: pgq_writer, tidemill_producer. Locks: none beyond the rows it inserts; with unique keys see insert_unique_jobs.
create or replace function tidemill.insert_jobs(i_queue text, i_jobs jsonb)
returns setof text
language plpgsql
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_queue_id int4;
    v_seq      regclass;
    v_table    text;
    v_delayed  bool;
    v_unique   bool;
begin
    -- The transaction id first, the name of the current event table in a later statement:
    -- then no rotation can miss these rows (see ARCHITECTURE.md, a rotation).
    perform pg_current_xact_id();
    select q.queue_id, q.queue_event_seq::regclass,
           pgq.quote_fqname(q.queue_data_pfx || '_' || q.queue_cur_table::text)
      into v_queue_id, v_seq, v_table
      from pgq.queue q join tidemill.job_queue j on j.queue_id = q.queue_id
     where q.queue_name = i_queue;
    if not found then
        raise exception '%', case when exists (select 1 from pgq.queue q where q.queue_name = i_queue)
                then format('queue "%s" is not a job queue: make it one with `tidemill queue create %s --jobs`', i_queue, i_queue)
                else format('queue "%s" does not exist: create it with `tidemill queue create %s --jobs`', i_queue, i_queue) end
            using errcode = 'TM004';
    end if;
    if jsonb_typeof(i_jobs) is distinct from 'array' then
        raise exception 'jobs must be a JSON array of {"type", "args", "options"}' using errcode = '22023';
    end if;
    if exists (select 1 from jsonb_array_elements(i_jobs) e where coalesce(e ->> 'type', '') = '') then
        raise exception 'every job needs a "type"' using errcode = '22023';
    end if;
    select bool_or(e -> 'options' ->> 'run_at' is not null or coalesce(e -> 'options' ->> 'delay_ms', '0') <> '0'),
           bool_or(e -> 'options' ->> 'unique' is not null)
      into v_delayed, v_unique from jsonb_array_elements(i_jobs) e;

    if v_unique then
        return query select u.id from tidemill.insert_unique_jobs(i_queue, i_jobs) u;
        return;
    end if;
    if v_delayed is not true then
        return query execute format(
            'insert into %s (ev_id, ev_time, ev_type, ev_data, ev_extra1)
             select nextval($1), now(), e ->> ''type'', coalesce((e -> ''args'')::text, ''null''), nullif(e -> ''options'', ''null'')::text
               from jsonb_array_elements($2) with ordinality as a (e, n) order by n
             returning ev_id::text', v_table)
            using v_seq, i_jobs;
        if found and tidemill.ticker_sleeps() then
            perform tidemill.ring_doorbell(i_queue);
        end if;
        return;
    end if;
    return query execute format(
        'with job as materialized (
             select nextval($1) as id, n, e ->> ''type'' as type, coalesce((e -> ''args'')::text, ''null'') as args,
                    nullif(e -> ''options'', ''null'')::text as options,
                    coalesce((e -> ''options'' ->> ''run_at'')::timestamptz,
                             clock_timestamp() + (e -> ''options'' ->> ''delay_ms'')::float8 * interval ''1 ms'') as due,
                    (e -> ''options'' ->> ''cancel_key'')::int8 as cancel_key
               from jsonb_array_elements($2) with ordinality as a (e, n) order by n),
         later as (
             insert into tidemill.waiting (queue_id, job_id, put, kind, due, ev_time, ev_type, ev_data, ev_extra1, cancel_key)
             select $3, id, 0, ''delayed'', due, now(), type, args, options, cancel_key from job where due > clock_timestamp()
             returning job_id),
         ready as (
             insert into %s (ev_id, ev_time, ev_type, ev_data, ev_extra1)
             select id, now(), type, args, options from job where id not in (select job_id from later))
         select id::text from job order by n', v_table)
        using v_seq, i_jobs, v_queue_id;
    if found and tidemill.ticker_sleeps() then
        perform tidemill.ring_doorbell(i_queue);
    end if;
end;
$$;
