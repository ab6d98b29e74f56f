-- ticker_forget: forgets answers to requests with an idempotency key whose time is over, the oldest first, at most i_limit;
-- how many went. For the ticker that holds the term; TM001 for any other.
-- Callers: tidemill_ticker. Locks: the rows, SKIP LOCKED.
create or replace function tidemill.ticker_forget(i_holder uuid, i_epoch bigint, i_limit integer)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    -- Read once: a call in the condition could not be looked for in the index.
    v_now   timestamptz := clock_timestamp();
    v_count integer;
begin
    perform tidemill.require_ticker(i_holder, i_epoch);
    delete from tidemill.idempotency i
    where (i.queue_id, i.key) in (
        select o.queue_id, o.key from tidemill.idempotency o
        where o.until <= v_now order by o.until limit i_limit
        for update skip locked);
    get diagnostics v_count = row_count;
    return v_count;
end
$$;
