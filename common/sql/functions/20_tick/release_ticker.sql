-- release_ticker: give the term up, also one that is over, so that a standby waits neither for its end nor for a sign
-- of its holder. False: another ticker has had one since.
-- Callers: tidemill_ticker, when it stops. Locks: the one row.
create or replace function tidemill.release_ticker(i_holder uuid, i_epoch bigint)
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update tidemill.ticker_term
    set holder = '00000000-0000-0000-0000-000000000000', until = clock_timestamp()
    where holder = i_holder and epoch = i_epoch;
    if found and tidemill.ticker_sleeps() then
        perform setval('tidemill.doorbell', 0);
        return true;
    end if;
    return found;
end
$$;
