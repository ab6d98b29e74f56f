-- insert_group_source: the body of the generated function of one group of queues: an INSERT for each event table, so
-- that a session plans it once. Null if the group has no queue.
-- Callers: make_inserts. Locks: none.
create or replace function tidemill.insert_group_source(i_group integer)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    q            record;
    t            record;
    v_branches   text;
    v_queues     integer[];
    v_statements text[];
begin
    for q in
        select queue_id, queue_ntables, queue_data_pfx, to_regclass(queue_event_seq) as sequence
        from pgq.queue where queue_id >> 4 = i_group order by queue_id
    loop
        v_branches := '';
        for t in
            select n, to_regclass(q.queue_data_pfx || '_' || n) as event_table
            from generate_series(0, q.queue_ntables - 1) n order by n
        loop
            -- A queue that somebody makes by hand may have no tables yet: it is not known here.
            continue when t.event_table is null or q.sequence is null;
            v_branches := v_branches || format($branch$if i_queue operator(pg_catalog.=) %s and i_table operator(pg_catalog.=) %s then
    v_id := pg_catalog.nextval(%L::pg_catalog.regclass);
    insert into %s (ev_id, ev_time, ev_txid, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)
    values (v_id, pg_catalog.now(), i_txid, i_type, i_data, i_extra1, i_extra2, i_extra3, i_extra4);
    return v_id;
end if;
$branch$, q.queue_id, t.n, q.sequence, t.event_table);
        end loop;
        v_queues := v_queues || q.queue_id;
        v_statements := v_statements || v_branches;
    end loop;
    if v_queues is null then
        return null;
    end if;
    return format($body$declare
    v_id bigint;
begin
%s
return pgq.insert_event_raw(i_queue_name, null, null, null, null, i_type, i_data, i_extra1, i_extra2, i_extra3, i_extra4);
end$body$, tidemill.if_tree('i_queue', v_queues, v_statements));
end
$$;
