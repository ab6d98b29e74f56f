-- Function: tidemill.lock_move(queue, consumer, batch, destination)
--
--   Source side: locks the consumer's row and says whether the given batch is the one that is
--   open, for the recorded destination.
--
-- Returns: NULL when it is; 'other_batch' | 'other_destination' otherwise
-- Errors: TM003 needs a rebase
-- Who: finish_moved, reposition_move. Locks: the subscription row, until the end of the transaction.
create or replace function tidemill.lock_move(i_queue text, i_consumer text, i_batch jsonb, i_destination jsonb)
returns text
language plpgsql
volatile
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_to tidemill.moved_to;
begin
    perform from pgq.queue q
      join pgq.consumer c on c.co_name = i_consumer
      join pgq.subscription s on s.sub_queue = q.queue_id and s.sub_consumer = c.co_id
     where q.queue_name = i_queue
       for update of s;
    select t.* into v_to
      from pgq.queue q join tidemill.moved_to t on t.queue_id = q.queue_id and t.consumer = i_consumer
     where q.queue_name = i_queue;
    if not found or not tidemill.is_moved_to(v_to, i_destination) then
        return 'other_destination';
    end if;
    -- A later statement than the lock: it sees what the last holder of the lock did.
    if tidemill.open_move(i_queue, i_consumer) is distinct from i_batch then
        return 'other_batch';
    end if;
    return null;
end;
$$;
