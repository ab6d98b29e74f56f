-- tick_snapshot: the stored snapshot of one tick; P0002 if there is no such tick (any more).
-- Callers: read_events. Locks: none.
create or replace function tidemill.tick_snapshot(i_queue_id integer, i_tick_id bigint)
returns txid_snapshot
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_snapshot txid_snapshot;
begin
    select t.tick_snapshot into v_snapshot from pgq.tick t where t.tick_queue = i_queue_id and t.tick_id = i_tick_id;
    if not found then
        raise exception 'tick % of queue % not found', i_tick_id, i_queue_id using errcode = 'no_data_found';
    end if;
    return v_snapshot;
end
$$;
