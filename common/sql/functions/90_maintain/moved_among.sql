-- moved_among: destination side: which of these events of a source queue were moved here? By id and time, because a
-- source that went back gives the ids again. An event that was rotated out is known by its id alone, if it was moved
-- after it happened.
-- Callers: pgq_admin (`tidemill queue rebase`). Locks: none. Reads tidemill.moved of this source queue, and event tables.
create or replace function tidemill.moved_among(
    i_system_identifier bigint, i_database_oid bigint, i_queue text, i_ids bigint[], i_times timestamptz[])
returns setof bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_event record;
    v_table text;
    v_time  timestamptz;
    v_found timestamptz;
begin
    for v_event in
        select a.id, a.time, m.queue_id, m.first_id + array_position(m.source_ids, a.id) - 1 as event_id, m.moved_at
        from tidemill.mover_position p
        join tidemill.moved m on m.source = p.source and m.queue = p.queue and m.source_epoch = p.source_epoch
        join unnest(i_ids, i_times) a (id, time) on a.id = any (m.source_ids)
        where p.system_identifier = i_system_identifier and p.database_oid = i_database_oid and p.queue = i_queue
          and m.source_ids && i_ids
    loop
        v_time := null;
        for v_table in select t from tidemill.event_tables(v_event.queue_id) t loop
            execute format('select ev_time from only %s where ev_id = $1 limit 1', v_table)
            into v_found using v_event.event_id;
            v_time := coalesce(v_time, v_found);
        end loop;
        if v_time = v_event.time or (v_time is null and v_event.time <= v_event.moved_at) then
            return next v_event.id;
        end if;
    end loop;
end
$$;
