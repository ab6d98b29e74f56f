-- event_branches: the queries (text, without order) whose rows together are the events which are visible in the snapshot
-- i_to and not in i_from, and meant for everybody or for the subscription i_sub_id.
-- Callers: event_source, read_ahead. Locks: none.
--
-- By transaction id, an event is in the batch if it began after i_from and ended before i_to: the range
-- xmax(i_from) .. xmax(i_to), seen by i_to; or if it was in progress in i_from and had ended in i_to: a list. Both are
-- read by the index; an aborted transaction left no visible row, so the list needs no further check.
create or replace function tidemill.event_branches(i_queue_id integer, i_from txid_snapshot, i_to txid_snapshot, i_sub_id integer)
returns setof text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_columns constant text :=
        'ev_id, ev_time, ev_txid, ev_owner, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4';
    v_owner text := case when i_sub_id is null then 'ev_owner is null'
                         else format('(ev_owner is null or ev_owner = %s)', i_sub_id) end;
    v_range text := format('ev_txid >= %s and ev_txid < %s', txid_snapshot_xmax(i_from), txid_snapshot_xmax(i_to));
    v_ended bigint[] := array(
        select x from txid_snapshot_xip(i_from) x where txid_visible_in_snapshot(x, i_to) order by x);
    v_where text[];
begin
    if exists (select 1 from txid_snapshot_xip(i_to) x where x >= txid_snapshot_xmax(i_from)) then
        v_range := v_range || format(' and txid_visible_in_snapshot(ev_txid, %L)', i_to);
    end if;
    if txid_snapshot_xmax(i_to) > txid_snapshot_xmax(i_from) or v_ended = '{}' then
        v_where := array[v_range];
    end if;
    if v_ended <> '{}' then
        v_where := v_where || format('ev_txid = any (%L::bigint[])', v_ended);
    end if;
    return query
    select format('select %s from %s where %s and %s', v_columns, t, w, v_owner)
    from tidemill.event_tables(i_queue_id) t, unnest(v_where) w order by t, w;
end
$$;
