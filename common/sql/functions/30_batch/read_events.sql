-- read_events: the events between two ticks of a queue, by id; those after i_after_id (null: from the start), about
-- i_limit of them (null: all): a page ends with all events of its last id, because a retried event keeps its id and may
-- be in the same range, and a producer may give ids. Fewer than i_limit: that was the end. ev_owner is null or i_sub_id.
-- Raises P0002 if a tick is not there (any more).
-- Callers: tidemill_mover, tidemill_dispatcher, pgq_reader. Locks: none beyond a reader's. Reads by index only: the
-- event tables are not analysed, so a plan must not depend on what is known of them.
create or replace function tidemill.read_events(
    i_queue_id integer, i_from_tick bigint, i_to_tick bigint, i_sub_id integer, i_after_id bigint, i_limit integer)
returns table (ev_id bigint, ev_time timestamptz, ev_txid bigint, ev_owner integer, ev_retry integer,
               ev_type text, ev_data text, ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    v_from   txid_snapshot := tidemill.tick_snapshot(i_queue_id, i_from_tick);
    v_to     txid_snapshot := tidemill.tick_snapshot(i_queue_id, i_to_tick);
begin
    if i_from_tick >= i_to_tick then
        return;
    end if;
    return query execute format(
        'select * from (select * from (%s) e %s order by ev_id %s) p order by ev_id, ev_txid',
        tidemill.event_source(i_queue_id, v_from, v_to, i_sub_id),
        case when i_after_id is not null then format('where ev_id > %s', i_after_id) else '' end,
        case when i_limit is not null then format('fetch first %s rows with ties', i_limit) else '' end);
end
$$;
