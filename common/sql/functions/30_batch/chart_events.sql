-- chart_events: where the events lie for which one of the conditions holds, in slices by event id: an array of
-- [last id of the slice, number of the event table, how many events, first place, last place], rising. A slice has at
-- least about 1,000 events and there are at most about 1,000 slices. Read once, by the transaction-id index, and kept
-- in a setting of the session for the pages that follow.
-- Callers: event_piece, read_events. Locks: the event tables, as a reader, until the end of the transaction: so that
-- nothing rewrites them (VACUUM FULL) between here and the page; a chart of a table as it was before is not used.
--
-- There is no index by event id: it would cost every producer 10 bytes of WAL and 25 bytes of index an event. Without
-- one, a page of a large batch can be found only by reading the whole batch, again for each page. But events mostly lie
-- in the order of their ids, or nearly: a slice is a small part of a table.
create or replace function tidemill.chart_events(i_queue_id integer, i_conditions text[])
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    v_setting constant text := 'tidemill.chart_' || i_queue_id;
    v_tables  constant text[] := array(select tidemill.event_tables(i_queue_id));
    v_kept    text := current_setting(v_setting, true);
    v_key     text;
    v_found   text;
    v_chart   jsonb;
begin
    execute format('lock table %s in access share mode', array_to_string(v_tables, ', '));
    select encode(sha256(convert_to(concat_ws(' ', i_conditions, string_agg(pg_relation_filenode(t::regclass)::text, ' ')),
                                    'UTF8')), 'hex')
    into v_key from unnest(v_tables) t;
    if starts_with(v_kept, v_key) then
        return substr(v_kept, length(v_key) + 1);
    end if;
    select string_agg(format(
        'select %s as n, ev_id >> 8 as bucket, count(*) as events, min(ctid) as first, max(ctid) as last'
        ' from %s where %s group by 2', t.n - 1, t.name, c), ' union all ')
    into v_found from unnest(v_tables) with ordinality t (name, n), unnest(i_conditions) c;
    execute format(
        'with found as materialized (%s),
              bucket as (select bucket, sum(events) as events from found group by bucket),
              slice as (select bucket, div(sum(events) over (order by bucket) - events,
                                           greatest(1000, sum(events) over () / 1000)) as slice from bucket),
              bound as (select slice, max(bucket) << 8 | 255 as last_id from slice group by slice),
              part as (select slice, f.n, sum(f.events) as events, min(f.first) as first, max(f.last) as last
                         from found f join slice using (bucket) group by slice, f.n)
         select jsonb_agg(jsonb_build_array(last_id, n, events, first, last) order by last_id, n)
         from part join bound using (slice)', v_found)
    into v_chart;
    perform set_config(v_setting, v_key || coalesce(v_chart, '[]')::text, false);
    return v_chart;
end
$$;
