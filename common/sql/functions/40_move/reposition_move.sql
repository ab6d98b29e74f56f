-- Function: tidemill.reposition_move(queue, consumer, batch, destination, to)
--
--   Source side: the destination's position is the truth. Sets the consumer to it and gives the
--   open batch up, when the destination went back (failover: the batches after it are read again)
--   or the source did (they are skipped: the destination has them). Only to a tick that is still
--   here with the same time and snapshot, so that both sides mean the same place in the log, and
--   that is not below the horizon: every event after it is still here too.
--
-- Parameters: i_to - the mark {"tick","time","snapshot"} in the destination's position
-- Returns: 'repositioned' | 'tick_gone' | 'other_batch' | 'other_destination'
-- Errors: TM003 needs a rebase
-- Who: tidemill_mover. Locks: the queue's row (share), then the subscription row.
create or replace function tidemill.reposition_move(i_queue text, i_consumer text, i_batch jsonb, i_destination jsonb, i_to jsonb)
returns text
language plpgsql
volatile
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_refused text;
begin
    -- The queue's row first, as registering does it.
    perform from pgq.queue q where q.queue_name = i_queue for share;
    v_refused := tidemill.lock_move(i_queue, i_consumer, i_batch, i_destination);
    if v_refused is not null then
        return v_refused;
    end if;
    perform from pgq.queue q
      join pgq.tick t on t.tick_queue = q.queue_id and t.tick_id = (i_to ->> 'tick')::int8
     where q.queue_name = i_queue and tidemill.tick_mark(t) = i_to
       and not exists (select from tidemill.tick_horizon h where h.queue_id = q.queue_id and t.tick_id < h.below_tick);
    if not found then
        return 'tick_gone';
    end if;
    perform pgq.register_consumer_at(i_queue, i_consumer, (i_to ->> 'tick')::int8);
    return 'repositioned';
end;
$$;
