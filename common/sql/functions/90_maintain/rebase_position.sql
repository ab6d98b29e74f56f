-- rebase_position: destination side: the same place in a source queue's log, after the source was rebased. Only from
-- exactly where it stood. False: it stands elsewhere, for example there already.
-- Callers: pgq_admin (`tidemill queue rebase`). Locks: the position's row.
-- i_from, i_to: {"system_identifier", "database_oid", "epoch", "tick", "time" (microseconds), "snapshot"}
create or replace function tidemill.rebase_position(i_queue text, i_from jsonb, i_to jsonb)
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update tidemill.mover_position p
    set system_identifier = (i_to ->> 'system_identifier')::bigint, database_oid = (i_to ->> 'database_oid')::bigint,
        source_epoch = (i_to ->> 'epoch')::bigint, tick_snapshot = i_to ->> 'snapshot'
    where p.queue = i_queue
      and p.system_identifier = (i_from ->> 'system_identifier')::bigint
      and p.database_oid = (i_from ->> 'database_oid')::bigint
      and p.source_epoch = (i_from ->> 'epoch')::bigint
      and p.tick_id = (i_from ->> 'tick')::bigint and p.tick_id = (i_to ->> 'tick')::bigint
      and p.tick_time = timestamptz 'epoch' + (i_from ->> 'time')::bigint * interval '1 microsecond'
      and p.tick_snapshot = i_from ->> 'snapshot';
    return found;
end
$$;
