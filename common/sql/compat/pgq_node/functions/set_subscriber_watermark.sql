-- set_subscriber_watermark: a node that reads from here says what it and the nodes below it still need. Forward only.
-- Callers: pgq_reader, pgq_writer, pgq_admin. Locks: the watermark's subscription.
-- Codes: 200; 100 it was there; 404 not a subscriber; 405 backwards.
create or replace function pgq_node.set_subscriber_watermark(
    in i_queue_name text, in i_node_name text, in i_watermark bigint, out ret_code integer, out ret_note text)
returns record
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_pin  text := format('.%s.watermark', i_node_name);
    v_tick bigint;
begin
    select s.sub_last_tick into v_tick
    from pgq.subscription s
    join pgq.queue q on q.queue_id = s.sub_queue
    join pgq.consumer c on c.co_id = s.sub_consumer
    where q.queue_name = i_queue_name and c.co_name = v_pin
    for update of s;
    if not found then
        ret_code := 404;
        ret_note := format('node %s not subscribed to queue %s', i_node_name, i_queue_name);
    elsif i_watermark < v_tick then
        ret_code := 405;
        ret_note := 'watermark must not be moved backwards';
    elsif i_watermark = v_tick then
        ret_code := 100;
        ret_note := 'watermark already set';
    else
        perform pgq.register_consumer_at(i_queue_name, v_pin, i_watermark);
        ret_code := 200;
        ret_note := format('%s set to %s', v_pin, i_watermark);
    end if;
end
$$;
