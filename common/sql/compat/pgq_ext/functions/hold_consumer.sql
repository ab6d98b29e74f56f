-- hold_consumer: take the tracking of one consumer for the rest of the transaction. Whoever asks where a consumer is
-- does so to apply what comes next: a second program under the same name waits here, and then reads what the first one
-- committed, instead of applying the same batch again.
-- Callers: the functions beside it. Locks: advisory (7465005, hash of both names).
create or replace function pgq_ext.hold_consumer(a_consumer text, a_subconsumer text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_advisory_xact_lock(7465005, hashtext(concat_ws(chr(1), a_consumer, a_subconsumer)));
end
$$;
