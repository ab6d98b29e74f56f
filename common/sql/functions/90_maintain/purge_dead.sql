-- Function: tidemill.purge_dead(queue_id, ids, type, until, limit)
--
--   Forgets dead letters, with their failures.
--
-- Parameters and return value: as tidemill.redrive_dead
-- Who: pgq_admin, tidemill_dispatcher. Locks: SKIP LOCKED on the rows.
create or replace function tidemill.purge_dead(
    i_queue_id int4, i_ids int8[], i_type text, i_until timestamptz, i_limit int4)
returns int4
language plpgsql
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_jobs int8[];
begin
    with taken as materialized (
        select d.job_id from tidemill.dead d
         where d.queue_id = i_queue_id and d.at <= i_until
           and (i_ids is null or d.job_id = any (i_ids))
           and (i_type is null or d.ev_type = i_type)
         order by d.at, d.job_id limit i_limit
           for update skip locked
    ), gone as (
        delete from tidemill.dead d using taken
         where d.queue_id = i_queue_id and d.job_id = taken.job_id
        returning d.job_id
    )
    select array_agg(gone.job_id) into v_jobs from gone;
    delete from tidemill.failure f where f.queue_id = i_queue_id and f.job_id = any (v_jobs);
    return coalesce(array_length(v_jobs, 1), 0);
end;
$$;
