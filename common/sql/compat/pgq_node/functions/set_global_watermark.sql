-- set_global_watermark: move the pin of what any node of the set may still need. The root computes it (argument null)
-- and tells all nodes through the queue; a branch follows what it hears.
-- Callers: pgq_admin. Locks: the node's row, the watermark's subscription.
-- Codes: 200 moved, or (branch) not moved because that tick is not here; 100 a leaf keeps nothing; 404 no such node
-- here; 500 a branch cannot compute it.
create or replace function pgq_node.set_global_watermark(
    in i_queue_name text, in i_watermark bigint, out ret_code integer, out ret_note text)
returns record
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_node record;
    v_tick bigint := i_watermark;
begin
    select n.node_type, n.worker_name into v_node
    from pgq_node.node_info n where n.queue_name = i_queue_name for update;
    if not found then
        ret_code := 404;
        ret_note := format('Queue %s not found', i_queue_name);
        return;
    elsif v_node.node_type = 'leaf' then
        ret_code := 100;
        ret_note := 'Ignoring global watermark in leaf';
        return;
    elsif v_node.node_type = 'branch' and i_watermark is null then
        ret_code := 500;
        ret_note := 'bad usage: wm=null on branch node';
        return;
    end if;

    ret_code := 200;
    if v_node.node_type = 'root' then
        v_tick := coalesce(i_watermark, (select t.local_watermark from tidemill.node_ticks(i_queue_name) t));
    elsif not exists (
        select 1 from pgq.tick t join pgq.queue q on q.queue_id = t.tick_queue
        where q.queue_name = i_queue_name and t.tick_id = v_tick)
    then
        -- An old batch, read again, or one from before this node.
        ret_note := 'Skipping global watermark update to ' || v_tick;
        return;
    end if;
    perform pgq.register_consumer_at(i_queue_name, '.global_watermark', v_tick);
    if v_node.node_type = 'root' then
        perform pgq.insert_event(
            i_queue_name, 'pgq.global-watermark', v_tick::text, i_queue_name, null, null, null);
        -- A root's worker reads nothing: its position goes along, so that it does not look stuck.
        update pgq_node.local_state s set last_tick_id = v_tick
        where s.queue_name = i_queue_name and s.consumer_name = v_node.worker_name;
    end if;
    ret_note := 'Global watermark set to ' || v_tick;
end
$$;
