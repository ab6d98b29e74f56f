-- Function: tidemill.finish_moved(queue, consumer, batch, destination)
--
--   Source side: finishes a batch that the destination has committed. Only this very batch, of
--   this very database, for the recorded destination; anything else is refused and nothing is
--   touched: after a failover the same batch id may name other events.
--
-- Parameters: i_batch - as next_move returned it; i_destination - as given to next_move
-- Returns: 'finished' | 'other_batch' (another batch is open, or none) | 'other_destination'
-- Errors: TM003 needs a rebase
-- Who: tidemill_mover, after the destination's commit. Locks: the subscription row.
create or replace function tidemill.finish_moved(i_queue text, i_consumer text, i_batch jsonb, i_destination jsonb)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_refused text := tidemill.lock_move(i_queue, i_consumer, i_batch, i_destination);
begin
    if v_refused is not null then
        return v_refused;
    end if;
    if pgq.finish_batch((i_batch ->> 'id')::int8) <> 1 then
        raise exception 'batch % of % was open under its lock and could not be finished', i_batch ->> 'id', i_queue;
    end if;
    update tidemill.moved_to t set started_at = now()
      from pgq.queue q
     where q.queue_name = i_queue and t.queue_id = q.queue_id and t.consumer = i_consumer and t.started_at is null;
    return 'finished';
end;
$$;
