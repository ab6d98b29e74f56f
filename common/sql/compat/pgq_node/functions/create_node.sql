-- create_node: make this database a node of a set. A root gets its queue; a branch a queue whose ticks and events come
-- from its provider, beginning at the set's watermark; a leaf only a position, and it may feed a queue that is here.
-- The addresses of the node and of its provider must be registered before.
-- Callers: pgq_admin. Locks: those of create_queue; the new rows.
-- Codes: 200; 401 there is a node already, or an argument is missing or does not belong to this type.
create or replace function pgq_node.create_node(
    in i_queue_name text, in i_node_type text, in i_node_name text, in i_worker_name text, in i_provider_name text,
    in i_global_watermark bigint, in i_combined_queue text, out ret_code integer, out ret_note text)
returns record
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_provider  text := i_provider_name;
    v_watermark bigint := i_global_watermark;
begin
    ret_code := 401;
    if exists (select 1 from pgq_node.node_info n where n.queue_name = i_queue_name) then
        ret_note := 'Node already initialized';
        return;
    elsif i_node_type is null or i_node_type not in ('root', 'branch', 'leaf') then
        ret_note := 'bad node type: ' || coalesce(i_node_type, 'NULL');
        return;
    elsif i_node_type = 'root' and num_nonnulls(i_provider_name, i_global_watermark, i_combined_queue) > 0
        or i_node_type = 'branch' and i_combined_queue is not null
    then
        ret_note := 'unexpected args for ' || i_node_type;
        return;
    elsif i_node_type = 'branch' and i_provider_name is null then
        ret_note := 'provider not set for ' || i_node_type;
        return;
    elsif i_node_type = 'branch' and i_global_watermark is null then
        ret_note := 'global watermark not set for ' || i_node_type;
        return;
    elsif i_combined_queue is not null
        and not exists (select 1 from pgq.queue q where q.queue_name = i_combined_queue)
    then
        ret_note := 'non-existing queue on leaf side: ' || i_combined_queue;
        return;
    end if;

    if i_node_type = 'root' then
        perform pgq.create_queue(i_queue_name);
        perform pgq.register_consumer(i_queue_name, '.global_watermark');
        v_provider := i_node_name;
        v_watermark := (select t.global_watermark from tidemill.node_ticks(i_queue_name) t);
    elsif i_node_type = 'branch' then
        perform pgq.create_queue(i_queue_name);
        update pgq.queue q set queue_external_ticker = true, queue_disable_insert = true
        where q.queue_name = i_queue_name;
        -- A new queue has tick 1. The provider's tick gets the same id here, so that positions mean the same.
        if i_global_watermark > 1 then
            perform pgq.ticker(i_queue_name, i_global_watermark, now(), 1);
        end if;
        perform pgq.register_consumer_at(i_queue_name, '.global_watermark', i_global_watermark);
    end if;
    insert into pgq_node.node_info (queue_name, node_type, node_name, worker_name, combined_queue)
    values (i_queue_name, i_node_type, i_node_name, i_worker_name, i_combined_queue);
    select f.ret_code, f.ret_note into ret_code, ret_note
    from pgq_node.register_consumer(i_queue_name, i_worker_name, v_provider, v_watermark) f;
    if ret_code = 200 then
        ret_note := format(
            'Node "%s" initialized for queue "%s" with type "%s"', i_node_name, i_queue_name, i_node_type);
    end if;
end
$$;
