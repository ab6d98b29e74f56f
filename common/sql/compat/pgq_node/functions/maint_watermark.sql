-- maint_watermark: publish the set's watermark if this is its root and the pin is older than five minutes. 0: once is
-- enough, see maint_operations.
-- Callers: pgq_admin. Locks: those of set_global_watermark.
create or replace function pgq_node.maint_watermark(i_queue_name text)
returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select 1 from pgq_node.node_info n where n.queue_name = i_queue_name and n.node_type = 'root')
        and (select c.lag from pgq.get_consumer_info(i_queue_name, '.global_watermark') c) >= interval '5 minutes'
    then
        perform pgq_node.set_global_watermark(i_queue_name, null);
    end if;
    return 0;
end
$$;
