-- Function: tidemill.move_news(consumer)
--
--   Source side: every queue, and whether a mover has something to do there: a tick after its
--   cursor, an open batch, or a consumer to register. One call a pass, so that a source with many
--   idle queues costs one cheap query.
--
-- Who: tidemill_mover. Locks: none.
create or replace function tidemill.move_news(i_consumer text, out o_queue text, out o_news bool)
returns setof record
language sql
stable
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
    select q.queue_name,
           s.sub_id is null or s.sub_batch is not null
           or exists (select from pgq.tick t where t.tick_queue = q.queue_id and t.tick_id > s.sub_last_tick)
      from pgq.queue q
      left join (pgq.subscription s join pgq.consumer c on c.co_id = s.sub_consumer and c.co_name = i_consumer)
        on s.sub_queue = q.queue_id;
$$;
