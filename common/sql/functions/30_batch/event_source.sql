-- event_source: event_branches as one query (text, without order).
-- Callers: read_events, batch_event_sql, find_event. Locks: none.
create or replace function tidemill.event_source(i_queue_id integer, i_from txid_snapshot, i_to txid_snapshot, i_sub_id integer)
returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select string_agg(branch, E'\nunion all\n') from tidemill.event_branches(i_queue_id, i_from, i_to, i_sub_id) branch
$$;
