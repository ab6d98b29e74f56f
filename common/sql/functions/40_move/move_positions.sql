-- Function: tidemill.move_positions(sources, queues, system_identifiers, database_oids, to_queues)
--
--   Destination side: what is known of each of these source queues, by name or by identity (a
--   source that was renamed in the settings is found under its old name), and whether its
--   destination queue takes events.
--
-- Parameters: five arrays of one length
-- Returns: for each at least one row: o_n - number in the arrays, from 1; o_ready; the position, NULLs
--   without one. Two rows where name and identity belong to different positions.
-- Who: tidemill_mover. Locks: none.
create or replace function tidemill.move_positions(i_sources text[], i_queues text[], i_system_identifiers int8[], i_database_oids int8[],
    i_to_queues text[],
    out o_n int4, out o_ready bool, out o_source text, out o_identity jsonb, out o_at jsonb, out o_mover_epoch int8)
returns setof record
language sql
stable
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
    select i.n::int4,
           exists (select from pgq.queue q where q.queue_name = i.to_queue and not q.queue_disable_insert),
           p.source,
           jsonb_build_object('system_identifier', p.system_identifier, 'database_oid', p.database_oid, 'epoch', p.source_epoch),
           jsonb_build_object('tick', p.tick_id, 'time', (extract(epoch from p.tick_time) * 1000000)::int8, 'snapshot', p.tick_snapshot),
           p.mover_epoch
      from unnest(i_sources, i_queues, i_system_identifiers, i_database_oids, i_to_queues)
               with ordinality i (source, queue, system_identifier, database_oid, to_queue, n)
      left join tidemill.mover_position p
        on p.queue = i.queue
       and (p.source = i.source
            or (p.system_identifier = i.system_identifier and p.database_oid = i.database_oid));
$$;
