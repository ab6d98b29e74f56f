-- Function: tidemill.redrive_dead(queue_id, ids, type, until, limit)
--
--   Makes dead letters jobs again: back into the log as a new put, with all attempts
--   before them. They keep their ids; their failures stay as history. Removal and insert
--   are one transaction. One that has a unique key takes it again; if another job has it, it stays dead.
--
-- Parameters: i_ids - these (null: all), i_type - of this type (null: any), i_until - dead
--   at this time already, i_limit - at most so many; call again while it returns that many
-- Returns: how many were put into the log
-- Errors: TM004 when the queue is not a job queue
-- Who: pgq_admin, tidemill_dispatcher. Locks: SKIP LOCKED on the rows.
create or replace function tidemill.redrive_dead(
    i_queue_id int4, i_ids int8[], i_type text, i_until timestamptz, i_limit int4)
returns int4
language plpgsql
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_dead   tidemill.dead[];
    v_room   int4;
    v_taken  int8[];
    v_held   int8[];        -- of those, whose key another job has
    v_stay   int8[] := '{}';
    v_sub_id int4;
    v_seq    regclass;
    v_table  text;
begin
    -- The transaction id first, the name of the current event table in a later statement,
    -- as every direct writer must (see tidemill.insert_jobs).
    perform pg_current_xact_id();
    select j.sub_id, q.queue_event_seq::regclass, pgq.quote_fqname(q.queue_data_pfx || '_' || q.queue_cur_table::text)
      into v_sub_id, v_seq, v_table
      from pgq.queue q join tidemill.job_queue j on j.queue_id = q.queue_id
     where q.queue_id = i_queue_id;
    if not found then
        raise exception 'queue % is not a job queue', i_queue_id using errcode = 'TM004';
    end if;
    loop
        v_room := i_limit - coalesce(cardinality(v_dead), 0);
        with taken as materialized (
            select d.job_id, d.ev_extra1 from tidemill.dead d
             where d.queue_id = i_queue_id and d.at <= i_until
               and (i_ids is null or d.job_id = any (i_ids))
               and (i_type is null or d.ev_type = i_type)
               and (d.ev_extra1 is null or d.ev_extra1 not like '%"unique"%' or d.job_id <> all (v_stay) and not exists (
                    select 1 from tidemill.unique_key u
                     where u.queue_id = i_queue_id and u.key = tidemill.unique_option(d.ev_extra1)))
             order by d.at, d.job_id limit v_room
               for update of d skip locked
        )
        select coalesce(array_agg(taken.job_id), '{}'), coalesce(array_agg(taken.job_id) filter (where taken.ev_extra1 like '%"unique"%'
                   and not tidemill.unique_retake(i_queue_id, taken.job_id, taken.ev_extra1)), '{}')
          into v_taken, v_held from taken;
        with gone as (
            delete from tidemill.dead d
             where d.queue_id = i_queue_id and d.job_id = any (v_taken) and d.job_id <> all (v_held)
            returning d as entry
        )
        select v_dead || array_agg(gone.entry) into v_dead from gone;
        v_stay := v_stay || v_held;
        -- Others may come in the places of those that stay.
        exit when cardinality(v_held) = 0 or cardinality(v_taken) < v_room;
    end loop;
    if v_dead is null then
        return 0;
    end if;
    -- Whoever redrives a job means it, whatever was said before.
    delete from tidemill.cancelling c using unnest(v_dead) d where c.queue_id = i_queue_id and c.job_id = d.job_id;
    -- As tidemill.promote_due puts a job again; no attempt counts any more.
    execute format(
        'insert into %s (ev_id, ev_time, ev_owner, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)
         select d.job_id, d.ev_time, $2, d.put + 1, d.ev_type, d.ev_data,
                jsonb_strip_nulls(jsonb_build_object(''attempt'', 0, ''extra1'', d.ev_extra1))::text,
                d.ev_extra2, d.ev_extra3, d.ev_extra4
           from unnest($1) d order by d.at, d.job_id', v_table)
        using v_dead, v_sub_id;
    -- The entries keep their ids; the sequence moves as well, so that the ticker sees that something came.
    perform nextval(v_seq);
    return array_length(v_dead, 1);
end;
$$;
