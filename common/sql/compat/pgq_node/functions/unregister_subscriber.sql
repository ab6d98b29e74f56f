-- unregister_subscriber: a node no longer reads from this one; nothing is kept for it any more.
-- Callers: pgq_reader, pgq_writer, pgq_admin. Locks: the subscriber's row, those of unregister_consumer.
-- Codes: 200; 304 there was none.
create or replace function pgq_node.unregister_subscriber(
    in i_queue_name text, in i_remote_node_name text, out ret_code integer, out ret_note text)
returns record
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_gone record;
begin
    delete from pgq_node.subscriber_info s
    where s.queue_name = i_queue_name and s.subscriber_node = i_remote_node_name
    returning s.worker_name, s.watermark_name into v_gone;
    if not found then
        ret_code := 304;
        ret_note := 'Subscriber not found';
        return;
    end if;
    perform pgq.unregister_consumer(i_queue_name, v_gone.watermark_name);
    perform pgq.unregister_consumer(i_queue_name, v_gone.worker_name);
    ret_code := 200;
    ret_note := 'Subscriber unregistered: ' || i_remote_node_name;
end
$$;
