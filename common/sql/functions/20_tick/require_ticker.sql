-- require_ticker: refuse (TM001) a ticker whose term does not run. Every pass asks in its own transaction, so that a
-- process which slept through its term does nothing when it wakes.
-- Callers: the ticker_… functions. Locks: none: were the term lost a moment later, the queues' tick locks keep order.
create or replace function tidemill.require_ticker(i_holder uuid, i_epoch bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (
        select 1 from tidemill.ticker_term
        where holder = i_holder and epoch = i_epoch and until > clock_timestamp())
    then
        raise exception 'ticker term % of % is over', i_epoch, i_holder using errcode = 'TM001';
    end if;
end
$$;
