-- register_subscriber: another node will read from this one. Its worker begins at a tick, without one at the set's
-- watermark; its watermark pins what it and the nodes below it need.
-- Callers: pgq_reader, pgq_writer, pgq_admin. Locks: the node's row, those of register_consumer_at.
-- Codes: 200; 401 a leaf has no queue to read; 404 no such node here.
create or replace function pgq_node.register_subscriber(
    in i_queue_name text, in i_remote_node_name text, in i_remote_worker_name text, in i_custom_tick_id bigint,
    out ret_code integer, out ret_note text, out global_watermark bigint)
returns record
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_type text;
    v_pin  text := format('.%s.watermark', i_remote_node_name);
begin
    select n.node_type into v_type from pgq_node.node_info n where n.queue_name = i_queue_name for update;
    if not found then
        ret_code := 404;
        ret_note := 'Unknown queue: ' || i_queue_name;
        return;
    end if;
    global_watermark := (select t.global_watermark from tidemill.node_ticks(i_queue_name) t);
    if v_type not in ('root', 'branch') then
        ret_code := 401;
        ret_note := format('Cannot subscribe to %s node', v_type);
        return;
    end if;

    perform pgq.register_consumer_at(i_queue_name, v_pin, global_watermark);
    perform pgq.register_consumer_at(
        i_queue_name, i_remote_worker_name, coalesce(i_custom_tick_id, global_watermark));
    insert into pgq_node.subscriber_info (queue_name, subscriber_node, worker_name, watermark_name)
    values (i_queue_name, i_remote_node_name, i_remote_worker_name, v_pin);
    ret_code := 200;
    ret_note := 'Subscriber registered: ' || i_remote_node_name;
end
$$;
