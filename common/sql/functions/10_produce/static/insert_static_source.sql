-- insert_static_source: the body of the generated function tidemill.insert_static, which insert_event calls: it reads
-- the queue's row and calls the function of its group.
-- Callers: make_inserts. Locks: none.
--
-- Only a queue without further rules is looked for. With none found v_queue is null, every comparison is not true, and
-- the last group passes the event on to insert_event_raw, which knows all rules and says what is wrong.
create or replace function tidemill.insert_static_source(i_groups integer[])
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_from  integer[];
    v_calls text[];
begin
    select array_agg(g * 16 order by g),
           array_agg(format('return tidemill.insert_group_%s(v_queue, v_table, i_txid, i_queue_name,'
                            ' i_type, i_data, i_extra1, i_extra2, i_extra3, i_extra4);', g) order by g)
    into v_from, v_calls from unnest(i_groups) g;
    return format($body$declare
    v_queue integer;
    v_table integer;
begin
select q.queue_id, q.queue_cur_table into v_queue, v_table from pgq.queue q
where q.queue_name operator(pg_catalog.=) i_queue_name and not q.queue_disable_insert and q.queue_per_tx_limit is null;
%s
end$body$, coalesce(
        tidemill.if_tree('v_queue', v_from, v_calls),
        'return pgq.insert_event_raw(i_queue_name, null, null, null, null, i_type, i_data,'
        ' i_extra1, i_extra2, i_extra3, i_extra4);'));
end
$$;
