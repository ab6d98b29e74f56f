-- promote_branch: a branch becomes the root: producers may write, the ticker takes the queue, its tick ids go on after
-- the last one that came from the old root.
-- Callers: pgq_admin. Locks: the node's row, the queue's row.
-- Codes: 200; 301 not a branch; 404 no such node here.
create or replace function pgq_node.promote_branch(in i_queue_name text, out ret_code integer, out ret_note text)
returns record
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_node record;
    v_top  bigint;
begin
    select n.node_type, n.node_name, n.worker_name into v_node
    from pgq_node.node_info n where n.queue_name = i_queue_name for update;
    if not found then
        ret_code := 404;
        ret_note := 'Node not initialized for queue: ' || i_queue_name;
        return;
    elsif v_node.node_type <> 'branch' then
        ret_code := 301;
        ret_note := 'Node not branch';
        return;
    end if;

    update pgq.queue q set queue_disable_insert = false, queue_external_ticker = false
    where q.queue_name = i_queue_name;
    v_top := (select t.queue_top from tidemill.node_ticks(i_queue_name) t);
    perform pgq.seq_setval(q.queue_tick_seq, v_top) from pgq.queue q where q.queue_name = i_queue_name;
    update pgq_node.node_info n set node_type = 'root' where n.queue_name = i_queue_name;
    update pgq_node.local_state s
    set provider_node = v_node.node_name, last_tick_id = v_top, uptodate = false
    where s.queue_name = i_queue_name and s.consumer_name = v_node.worker_name;
    ret_code := 200;
    ret_note := 'Branch node promoted to root';
end
$$;
