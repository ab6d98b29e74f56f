-- event_branches: the queries (text, without order) whose rows together are the events which are visible in the snapshot
-- i_to and not in i_from, and meant for everybody or for the subscription i_sub_id: one for each table and condition.
-- Callers: event_source, read_ahead. Locks: none.
create or replace function tidemill.event_branches(i_queue_id integer, i_from txid_snapshot, i_to txid_snapshot, i_sub_id integer)
returns setof text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select format('select ev_id, ev_time, ev_txid, ev_owner, ev_retry, ev_type, ev_data,'
                  ' ev_extra1, ev_extra2, ev_extra3, ev_extra4 from %s where %s', t, w)
    from tidemill.event_tables(i_queue_id) t, tidemill.event_conditions(i_from, i_to, i_sub_id) w order by t, w;
end
$$;
