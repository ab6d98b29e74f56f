-- unregister_location: forget a node's address, and its subscription if it still has one. The root tells all nodes
-- through the queue.
-- Callers: pgq_admin. Locks: the node's row, the subscriptions and rows of the node that goes.
-- Codes: 200; 301 there was none; 403 it is this node, or the one it reads from.
create or replace function pgq_node.unregister_location(
    in i_queue_name text, in i_node_name text, out ret_code integer, out ret_note text)
returns record
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_node record;
begin
    select n.node_name, n.node_type, n.worker_name into v_node
    from pgq_node.node_info n where n.queue_name = i_queue_name for update;
    if v_node.node_name = i_node_name then
        ret_code := 403;
        ret_note := 'Cannot drop node''s own location';
        return;
    elsif exists (
        select 1 from pgq_node.local_state s
        where s.queue_name = i_queue_name and s.consumer_name = v_node.worker_name and s.provider_node = i_node_name)
    then
        ret_code := 403;
        ret_note := 'Cannot drop location of node''s parent';
        return;
    end if;

    perform pgq_node.unregister_subscriber(i_queue_name, i_node_name);
    delete from pgq_node.node_location l where l.queue_name = i_queue_name and l.node_name = i_node_name;
    if found then
        ret_code := 200;
        ret_note := 'Ok';
    else
        ret_code := 301;
        ret_note := format('Location not found: %s/%s', i_queue_name, i_node_name);
    end if;
    -- Also if it was not known here: another node may know it.
    if v_node.node_type = 'root' then
        perform pgq.insert_event(
            i_queue_name, 'pgq.unregister-location', i_node_name, i_queue_name, null, null, null);
    end if;
end
$$;
