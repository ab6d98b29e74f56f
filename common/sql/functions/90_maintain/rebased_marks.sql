-- rebased_marks: what the last rebase of this database left for destinations: for each queue and mark, the place in the
-- old log and in this one, as rebase_position takes them.
-- Callers: pgq_admin (`tidemill queue rebase`). Locks: none.
create or replace function tidemill.rebased_marks(out queue text, out old_mark jsonb, out new_mark jsonb)
returns setof record
language sql security definer
set search_path = pg_catalog, pg_temp
as $$
    select q.queue_name, r.old_source || (m -> 'from'),
           jsonb_build_object('system_identifier', i.system_identifier, 'database_oid', i.database_oid::bigint,
                              'epoch', i.epoch) || (m -> 'to')
    from tidemill.rebased r
    join tidemill.identity i on i.epoch = r.epoch and i.refused is null
    join pgq.queue q on q.queue_id = r.queue_id
    cross join jsonb_array_elements(r.positions) m
    order by 1;
$$;
