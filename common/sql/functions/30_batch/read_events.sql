-- read_events: the events between two ticks of a queue, by id; those after i_after_id (null: from the start), about
-- i_limit of them (null: all): a page ends with all events of its last id, because a retried event keeps its id and may
-- be in the same range, and a producer may give ids. Fewer than i_limit: that was the end. ev_owner is null or i_sub_id.
-- Raises P0002 if a tick is not there (any more).
-- Callers: tidemill_mover, tidemill_dispatcher, pgq_reader. Locks: none beyond a reader's. Reads by index only: the
-- event tables are not analysed, so a plan must not depend on what is known of them.
--
-- Memory is bounded by work_mem, however many events there are. The first page reads the whole range; each further page
-- costs its own rows, if the events lie nearly in the order of their ids: see chart_events. Every page may be read in a
-- session of its own; each session then charts the range once.
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
    v_from       txid_snapshot := tidemill.tick_snapshot(i_queue_id, i_from_tick);
    v_to         txid_snapshot := tidemill.tick_snapshot(i_queue_id, i_to_tick);
    v_conditions text[];
    v_source     text;
    v_count      bigint;
begin
    if i_from_tick >= i_to_tick then
        return;
    end if;
    v_conditions := array(select tidemill.event_conditions(v_from, v_to, i_sub_id));
    if i_limit is not null and i_after_id is null then
        -- More than a few pages? A chart is worth it then; few rows are counted in vain.
        select string_agg(format('(%s limit %s)', branch, i_limit::bigint * 4), ' union all ')
        into v_source from tidemill.event_branches(i_queue_id, v_from, v_to, i_sub_id) branch;
        execute format('select count(*) from (%s) e', v_source) into v_count;
    end if;
    if i_after_id is not null or v_count >= i_limit::bigint * 4 then
        v_source := tidemill.event_piece(i_queue_id, v_conditions, i_after_id, i_limit);
        if v_source is null then
            return;
        end if;
    else
        v_source := tidemill.event_source(i_queue_id, v_from, v_to, i_sub_id);
    end if;
    return query execute format(
        'select * from (select * from (%s) e order by ev_id %s) p order by ev_id, ev_txid', v_source,
        case when i_limit is not null then format('fetch first %s rows with ties', i_limit) else '' end);
    get diagnostics v_count = row_count;
    if i_after_id is null and v_count >= i_limit then
        -- Now, and not with the second page: for that one a mover's destination transaction waits.
        perform tidemill.chart_events(i_queue_id, v_conditions);
    elsif i_after_id is not null and v_count < i_limit then
        perform set_config('tidemill.chart_' || i_queue_id, '', false);
    end if;
end
$$;
