-- source_positions: destination side: where this destination stands in the queues of a source database.
-- Callers: pgq_admin (`tidemill queue rebase`). Locks: none.
create or replace function tidemill.source_positions(
    i_system_identifier bigint, i_database_oid bigint, out queue text, out source_epoch bigint, out mark jsonb)
returns setof record
language sql security definer
set search_path = pg_catalog, pg_temp
as $$
    select p.queue, p.source_epoch,
           jsonb_build_object('tick', p.tick_id, 'time', (extract(epoch from p.tick_time) * 1000000)::bigint,
                              'snapshot', p.tick_snapshot)
    from tidemill.mover_position p
    where p.system_identifier = i_system_identifier and p.database_oid = i_database_oid
    order by p.queue;
$$;
