-- event_piece: a query (text, without order) that finds at least the next i_limit events (null: all) behind i_after_id
-- (null: from the start) for which one of the conditions holds, if there are so many, at about the cost of its own
-- rows: see chart_events. Null: no more.
-- Callers: read_events, read_ahead. Locks: the event tables, as a reader, until the end of the transaction.
create or replace function tidemill.event_piece(
    i_queue_id integer, i_conditions text[], i_after_id bigint, i_limit integer)
returns text
language sql
set search_path = pg_catalog, pg_temp
as $$
    with part as (
        select (p -> 0)::bigint as last_id, (p -> 1)::integer as n, (p -> 2)::bigint as events,
               (p ->> 3)::tid as first, (p ->> 4)::tid as last
        from jsonb_array_elements(tidemill.chart_events(i_queue_id, i_conditions)) p
    ), slice as (
        -- How many of the first slice's events are behind i_after_id, nobody knows: it does not count.
        select last_id, coalesce(sum(sum(events)) over w - first_value(sum(events)) over w, 0) as before
        from part where i_after_id is null or last_id > i_after_id group by last_id
        window w as (order by last_id rows between unbounded preceding and 1 preceding)
    ), piece as (
        select n, min(first) as first, max(last) as last, max(max(last_id)) over () as last_id
        from part where last_id in (select last_id from slice where i_limit is null or before < i_limit) group by n
    )
    -- The inner query knows nothing of transaction ids, so that it is read by place.
    select string_agg(format(
        'select ev_id, ev_time, ev_txid, ev_owner, ev_retry, ev_type, ev_data,'
        ' ev_extra1, ev_extra2, ev_extra3, ev_extra4'
        ' from (select * from %s where ctid >= %L and ctid <= %L and ev_id <= %s and %s offset 0) e where %s',
        t.name, first, last, last_id, coalesce('ev_id > ' || i_after_id, 'true'),
        array_to_string(i_conditions, ' or ')), ' union all ')
    from piece join lateral (
        select name, i - 1 as n from tidemill.event_tables(i_queue_id) with ordinality t (name, i)) t using (n)
$$;
