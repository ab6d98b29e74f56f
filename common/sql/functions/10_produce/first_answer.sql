-- Function: tidemill.first_answer(queue, key)
--
--   Begins a request with an idempotency key: nobody else carries one out with this key until
--   the transaction ends. What the first request with it was answered, and the hash of its body;
--   NULL when this is the first one, or the key may be used anew. An unknown queue has no keys.
--
-- Errors: 55P03 when a request with this key is being carried out, and not done within 500 ms
-- Who: tidemill_dispatcher. Locks: advisory (7465006, hash of queue and key) until the end of the transaction.
create or replace function tidemill.first_answer(i_queue text, i_key text, out body bytea, out answer text)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
set lock_timeout = '500ms'
as $$
begin
    perform pg_advisory_xact_lock(7465006, hashtext(concat_ws(chr(1), i_queue, i_key)));
    -- A later statement: it sees what the request before has committed.
    select i.body, i.answer into body, answer
      from pgq.queue q join tidemill.idempotency i on i.queue_id = q.queue_id
     where q.queue_name = i_queue and i.key = i_key and i.until > clock_timestamp();
end;
$$;
