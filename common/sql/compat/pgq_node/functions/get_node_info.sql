-- get_node_info: what this database is in a set, and how far it is. target_for lists the queues that are merged into
-- this one. On a root worker_last_tick is the queue's newest tick.
-- Callers: pgq_reader, pgq_writer, pgq_admin. Locks: none.
-- Codes: 100; 404 no such node here.
create or replace function pgq_node.get_node_info(
    in i_queue_name text,
    out ret_code integer, out ret_note text, out node_type text, out node_name text,
    out global_watermark bigint, out local_watermark bigint, out provider_node text, out provider_location text,
    out combined_queue text, out combined_type text,
    out worker_name text, out worker_paused boolean, out worker_uptodate boolean, out worker_last_tick bigint,
    out node_attrs text, out target_for text[])
returns record
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_ticks record;
begin
    select 100, 'Ok', n.node_type, n.node_name, s.provider_node, l.node_location, c.queue_name, c.node_type,
           n.worker_name, s.paused, s.uptodate, s.last_tick_id, n.node_attrs
    into ret_code, ret_note, node_type, node_name, provider_node, provider_location, combined_queue, combined_type,
         worker_name, worker_paused, worker_uptodate, worker_last_tick, node_attrs
    from pgq_node.node_info n
    left join pgq_node.node_info c on c.queue_name = n.combined_queue
    left join pgq_node.local_state s on s.queue_name = n.queue_name and s.consumer_name = n.worker_name
    left join pgq_node.node_location l on l.queue_name = s.queue_name and l.node_name = s.provider_node
    where n.queue_name = i_queue_name;
    if not found then
        ret_code := 404;
        ret_note := 'Unknown queue: ' || i_queue_name;
        return;
    elsif node_type = 'leaf' then
        local_watermark := worker_last_tick;
        return;
    end if;

    select * into v_ticks from tidemill.node_ticks(i_queue_name);
    local_watermark := v_ticks.local_watermark;
    global_watermark := v_ticks.global_watermark;
    if node_type = 'root' then
        worker_last_tick := v_ticks.queue_top;
    end if;
    target_for := (
        select array_agg(n.queue_name order by n.queue_name) from pgq_node.node_info n
        where n.combined_queue = i_queue_name);
end
$$;
