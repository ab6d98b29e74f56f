-- release_ticker: end the term at once, so that a standby need not wait for its end.
-- Callers: tidemill_ticker, when it stops. Locks: the one row.
create or replace function tidemill.release_ticker(i_holder uuid, i_epoch bigint)
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update tidemill.ticker_term set until = clock_timestamp() where holder = i_holder and epoch = i_epoch;
    return found;
end
$$;
