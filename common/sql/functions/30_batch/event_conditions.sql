-- event_conditions: the conditions (texts) on rows of event tables which together, and never two of them, hold for the
-- events that are visible in the snapshot i_to and not in i_from, and meant for everybody or for the subscription
-- i_sub_id.
-- Callers: event_branches, read_events. Locks: none.
--
-- By transaction id, an event is in the batch if it began after i_from and ended before i_to: the range
-- xmax(i_from) .. xmax(i_to), seen by i_to; or if it was in progress in i_from and had ended in i_to: a list. Both are
-- read by the index; an aborted transaction left no visible row, so the list needs no further check.
create or replace function tidemill.event_conditions(i_from txid_snapshot, i_to txid_snapshot, i_sub_id integer)
returns setof text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_owner text := case when i_sub_id is null then 'ev_owner is null'
                         else format('(ev_owner is null or ev_owner = %s)', i_sub_id) end;
    v_range text := format('ev_txid >= %s and ev_txid < %s', txid_snapshot_xmax(i_from), txid_snapshot_xmax(i_to));
    v_ended bigint[] := array(
        select x from txid_snapshot_xip(i_from) x where txid_visible_in_snapshot(x, i_to) order by x);
begin
    if exists (select 1 from txid_snapshot_xip(i_to) x where x >= txid_snapshot_xmax(i_from)) then
        v_range := v_range || format(' and txid_visible_in_snapshot(ev_txid, %L)', i_to);
    end if;
    if v_ended <> '{}' then
        return next format('ev_txid = any (%L::bigint[]) and %s', v_ended, v_owner);
    end if;
    if txid_snapshot_xmax(i_to) > txid_snapshot_xmax(i_from) or v_ended = '{}' then
        return next format('%s and %s', v_range, v_owner);
    end if;
end
$$;
