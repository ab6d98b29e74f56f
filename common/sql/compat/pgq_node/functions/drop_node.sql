-- drop_node: take a node out of a set, called on every node. On the node itself: its state, its queue with all events,
-- and all addresses. Elsewhere: its subscription and its address. What an earlier attempt left is cleaned up too.
-- Callers: pgq_admin. Locks: those of drop_queue; the rows that go.
-- Codes: 200; 405 this node reads from it.
create or replace function pgq_node.drop_node(
    in i_queue_name text, in i_node_name text, out ret_code integer, out ret_note text)
returns record
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_node record;
begin
    select n.node_name, n.worker_name into v_node
    from pgq_node.node_info n where n.queue_name = i_queue_name for update;
    if not found or v_node.node_name = i_node_name then
        delete from pgq_node.subscriber_info s where s.queue_name = i_queue_name;
        delete from pgq_node.local_state s where s.queue_name = i_queue_name;
        delete from pgq_node.node_info n where n.queue_name = i_queue_name;
        perform pgq.drop_queue(q.queue_name, true) from pgq.queue q where q.queue_name = i_queue_name;
        delete from pgq_node.node_location l where l.queue_name = i_queue_name and l.node_name <> i_node_name;
    elsif exists (
        select 1 from pgq_node.local_state s
        where s.queue_name = i_queue_name and s.consumer_name = v_node.worker_name and s.provider_node = i_node_name)
    then
        ret_code := 405;
        ret_note := 'Cannot drop provider node: ' || i_node_name;
        return;
    end if;
    -- Ends its subscription too, and tells the others if this is the root.
    perform pgq_node.unregister_location(i_queue_name, i_node_name);
    ret_code := 200;
    ret_note := 'Node dropped: ' || i_node_name;
end
$$;
