-- register_consumer: a cascaded consumer reads from a node and keeps its position here; one that is here gets the new
-- provider and position.
-- Callers: pgq_writer, pgq_admin. Locks: the node's row, the consumer's row.
-- Codes: 200; 201 it was here; 404 no such node here.
create or replace function pgq_node.register_consumer(
    in i_queue_name text, in i_consumer_name text, in i_provider_node text, in i_custom_tick_id bigint,
    out ret_code integer, out ret_note text)
returns record
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform 1 from pgq_node.node_info n where n.queue_name = i_queue_name for update;
    if not found then
        ret_code := 404;
        ret_note := 'Unknown queue: ' || i_queue_name;
        return;
    end if;
    update pgq_node.local_state s set provider_node = i_provider_node, last_tick_id = i_custom_tick_id
    where s.queue_name = i_queue_name and s.consumer_name = i_consumer_name;
    if found then
        ret_code := 201;
        ret_note := format('Consumer already registered: %s/%s', i_queue_name, i_consumer_name);
        return;
    end if;
    insert into pgq_node.local_state (queue_name, consumer_name, provider_node, last_tick_id)
    values (i_queue_name, i_consumer_name, i_provider_node, i_custom_tick_id);
    ret_code := 200;
    ret_note := format('Consumer %s registered on queue %s', i_consumer_name, i_queue_name);
end
$$;
