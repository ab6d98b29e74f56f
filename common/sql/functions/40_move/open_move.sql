-- Function: tidemill.open_move(queue, consumer)
--
--   The batch that is open for a consumer, named by everything that makes it this batch: its id,
--   both ticks with time and snapshot, and the identity of the database. Tick ids, batch ids and
--   even snapshots are issued again after a failover to a standby that lagged; a tick's time is not.
--
-- Returns: {"id", "prev": {"tick","time","snapshot"}, "cur": {...}, "source": {"system_identifier",
--   "database_oid","epoch"}}, times in microseconds since 1970; NULL when no batch is open
-- Errors: TM003 when the database is not the one its ticks were made in
-- Who: the other functions of this stage. Locks: none.
create or replace function tidemill.open_move(i_queue text, i_consumer text)
returns jsonb
language plpgsql
volatile
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_batch jsonb;
begin
    perform tidemill.require_identity();
    select jsonb_build_object(
               'id', s.sub_batch,
               'prev', tidemill.tick_mark(p), 'cur', tidemill.tick_mark(c),
               'source', jsonb_build_object('system_identifier', i.system_identifier, 'database_oid', i.database_oid::int8, 'epoch', i.epoch))
      into v_batch
      from tidemill.identity i
      join pgq.queue q on q.queue_name = i_queue
      join pgq.consumer n on n.co_name = i_consumer
      join pgq.subscription s on s.sub_queue = q.queue_id and s.sub_consumer = n.co_id
      join pgq.tick p on p.tick_queue = q.queue_id and p.tick_id = s.sub_last_tick
      join pgq.tick c on c.tick_queue = q.queue_id and c.tick_id = s.sub_next_tick
     where s.sub_batch is not null;
    return v_batch;
end;
$$;
