-- node_ticks: the ticks that matter to a node's neighbours. local_watermark is the lowest that a consumer here or a node
-- below still needs (without any: the newest), global_watermark the lowest that any node of the set needs, queue_top the
-- newest. All null if there is no such queue here.
-- Callers: the functions of pgq_node. Locks: none.
create or replace function tidemill.node_ticks(
    in i_queue_name text, out local_watermark bigint, out global_watermark bigint, out queue_top bigint)
returns record
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_queue integer := (select queue_id from pgq.queue where queue_name = i_queue_name);
begin
    queue_top := (
        select tick_id from pgq.tick where tick_queue = v_queue order by tick_queue desc, tick_id desc limit 1);
    select min(s.sub_last_tick) filter (where c.co_name <> '.global_watermark'),
           min(s.sub_last_tick) filter (where c.co_name = '.global_watermark')
    into local_watermark, global_watermark
    from pgq.subscription s join pgq.consumer c on c.co_id = s.sub_consumer
    where s.sub_queue = v_queue;
    local_watermark := coalesce(local_watermark, queue_top);
end
$$;
