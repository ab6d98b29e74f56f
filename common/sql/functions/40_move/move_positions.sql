-- Function: tidemill.move_positions(sources, queues, system_identifiers, database_oids)
--
--   Destination side: what is known of each of these source queues, by name or by identity: a
--   source that was renamed in the settings is found under its old name.
--
-- Parameters: four arrays of one length
-- Returns: one row per position found: o_n - number in the arrays, from 1; the position
-- Who: tidemill_mover. Locks: none.
create or replace function tidemill.move_positions(i_sources text[], i_queues text[], i_system_identifiers int8[], i_database_oids int8[],
    out o_n int4, out o_source text, out o_identity jsonb, out o_at jsonb, out o_mover_epoch int8)
returns setof record
language sql
stable
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
    select i.n::int4, p.source,
           jsonb_build_object('system_identifier', p.system_identifier, 'database_oid', p.database_oid, 'epoch', p.source_epoch),
           jsonb_build_object('tick', p.tick_id, 'time', (extract(epoch from p.tick_time) * 1000000)::int8, 'snapshot', p.tick_snapshot),
           p.mover_epoch
      from unnest(i_sources, i_queues, i_system_identifiers, i_database_oids)
               with ordinality i (source, queue, system_identifier, database_oid, n)
      join tidemill.mover_position p
        on p.queue = i.queue
       and (p.source = i.source
            or (p.system_identifier = i.system_identifier and p.database_oid = i.database_oid));
$$;
