-- Function: tidemill.keep_answer(queue, key, body, answer)
--
--   Ends a request with an idempotency key, in the transaction that carried it out: for a day
--   tidemill.first_answer gives this answer.
--
-- Parameters: i_body - the hash of what was asked; i_answer - as it will be sent
-- Errors: 23505 when the key has an answer: first_answer was not asked in this transaction
-- Who: tidemill_dispatcher. Locks: the row.
create or replace function tidemill.keep_answer(i_queue text, i_key text, i_body bytea, i_answer text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    c_kept constant interval := '24 hours';
begin
    insert into tidemill.idempotency as i (queue_id, key, body, answer, until)
    select q.queue_id, i_key, i_body, i_answer, clock_timestamp() + c_kept from pgq.queue q where q.queue_name = i_queue
        on conflict (queue_id, key) do update set body = excluded.body, answer = excluded.answer, until = excluded.until
     where i.until <= clock_timestamp();
    if not found then
        raise exception 'the key "%" of queue "%" has an answer already, or the queue is gone', i_key, i_queue using errcode = '23505';
    end if;
end;
$$;
