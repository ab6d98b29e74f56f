-- holds_ticker: is this the ticker whose term runs? Every pass of a ticker asks in its own transaction, so that a
-- process which slept through its term does nothing.
-- Callers: tidemill_ticker. Locks: none: were the term lost a moment later, the queues' tick locks still keep order.
create or replace function tidemill.holds_ticker(i_holder uuid, i_epoch bigint)
returns boolean
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select 1 from tidemill.ticker_term
        where holder = i_holder and epoch = i_epoch and until > clock_timestamp());
$$;
