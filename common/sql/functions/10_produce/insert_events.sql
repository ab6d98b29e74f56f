-- insert_events: put many events into a queue with one statement, as part of the caller's transaction. Returns their ids
-- in the order given.
-- Callers: pgq_writer, tidemill_producer; also where the real PgQ is. Locks: the event table, as any insert does.
--
-- i_types, i_data: one element per event; an element may be null. i_extra1 to i_extra4: null, or as many elements.
-- Errors: those of pgq.insert_event; 22023 when an array is missing or has another length.
--
-- The order of transaction id, queue's row and event numbers is that of insert_event_raw. With a queue_per_tx_limit the
-- events go one by one through that function, which counts them: the real PgQ counts in its own memory.
create or replace function tidemill.insert_events(
    i_queue text, i_types text[], i_data text[],
    i_extra1 text[] default null, i_extra2 text[] default null,
    i_extra3 text[] default null, i_extra4 text[] default null)
returns setof bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_txid    bigint := txid_current();
    v_wrong   text;
    v_columns text;
    v_arrays  text;
    q         record;
begin
    if i_queue is null then
        raise exception 'Queue name must not be NULL';
    end if;
    if i_types is null or i_data is null then
        raise exception '% must not be NULL', case when i_types is null then 'types' else 'data' end
            using errcode = 'invalid_parameter_value';
    end if;
    select format('%s has %s elements, types has %s', a.name, a.count, cardinality(i_types)) into v_wrong
    from (values (1, 'data', cardinality(i_data)),
                 (2, 'extra1', cardinality(i_extra1)), (3, 'extra2', cardinality(i_extra2)),
                 (4, 'extra3', cardinality(i_extra3)), (5, 'extra4', cardinality(i_extra4))) a (place, name, count)
    where a.count <> cardinality(i_types) order by a.place limit 1;
    if v_wrong is not null then
        raise exception '%', v_wrong using errcode = 'invalid_parameter_value';
    end if;
    select s.queue_disable_insert, s.queue_per_tx_limit, s.queue_event_seq,
           pgq.quote_fqname(s.queue_data_pfx || '_' || s.queue_cur_table) as cur_table
    into q from pgq.queue s where s.queue_name = i_queue;
    if not found then
        raise exception 'No such queue';
    end if;
    if q.queue_disable_insert and current_setting('session_replication_role') <> 'replica' then
        raise exception 'Insert into queue disallowed';
    end if;
    if q.queue_per_tx_limit is not null then
        return query
        select pgq.insert_event_raw(i_queue, null, now(), null, null, e.type, e.data, e.extra1, e.extra2, e.extra3, e.extra4)
        from unnest(i_types, i_data, i_extra1, i_extra2, i_extra3, i_extra4)
             e (type, data, extra1, extra2, extra3, extra4);
        return;
    end if;
    -- Only the arrays that are there: each is laid out as a table of its own before the first row is read.
    select coalesce(string_agg(', ev_extra' || e.n, '' order by e.n), ''),
           coalesce(string_agg(', $' || 4 + e.n, '' order by e.n), '')
    into v_columns, v_arrays
    from unnest(array[i_extra1 is not null, i_extra2 is not null, i_extra3 is not null, i_extra4 is not null])
         with ordinality e (given, n)
    where e.given;
    return query execute format(
        'insert into %s (ev_id, ev_time, ev_txid, ev_type, ev_data%s)'
        ' select nextval($1), now(), $2, e.* from unnest($3, $4%s) e returning ev_id', q.cur_table, v_columns, v_arrays)
    using q.queue_event_seq::regclass, v_txid, i_types, i_data, i_extra1, i_extra2, i_extra3, i_extra4;
    if found and tidemill.ticker_sleeps() then
        perform tidemill.ring_doorbell(i_queue);
    end if;
end
$$;
