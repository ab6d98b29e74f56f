-- get_worker_state: the state of the node's worker, with the ticks that matter to its neighbours.
-- Callers: pgq_admin. Locks: none.
-- Codes: 100; 404 no such node here, or the queue it is merged into is not a node.
create or replace function pgq_node.get_worker_state(
    in i_queue_name text,
    out ret_code integer, out ret_note text, out node_type text, out node_name text, out completed_tick bigint,
    out provider_node text, out provider_location text, out paused boolean, out uptodate boolean, out cur_error text,
    out worker_name text, out global_watermark bigint, out local_watermark bigint, out local_queue_top bigint,
    out combined_queue text, out combined_type text)
returns record
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    select n.worker_name, n.combined_queue, c.node_type into worker_name, combined_queue, combined_type
    from pgq_node.node_info n
    left join pgq_node.node_info c on c.queue_name = n.combined_queue
    where n.queue_name = i_queue_name;
    select f.ret_code, f.ret_note, f.node_type, f.node_name, f.completed_tick, f.provider_node, f.provider_location,
           f.paused, f.uptodate, f.cur_error
    into ret_code, ret_note, node_type, node_name, completed_tick, provider_node, provider_location,
         paused, uptodate, cur_error
    from pgq_node.get_consumer_state(i_queue_name, worker_name) f;
    if ret_code >= 300 then
        return;
    elsif combined_queue is not null and combined_type is null then
        ret_code := 404;
        ret_note := 'Combined queue is not a node: ' || combined_queue;
        return;
    elsif node_type = 'leaf' then
        local_watermark := completed_tick;
        return;
    end if;
    select t.local_watermark, t.global_watermark, t.queue_top into local_watermark, global_watermark, local_queue_top
    from tidemill.node_ticks(i_queue_name) t;
end
$$;
