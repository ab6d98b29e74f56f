-- ticker_pass: tidemill.tick_pass for the ticker that holds the term; TM001 for any other. Whoever announced a sleep, it is
-- over.
-- Callers: tidemill_ticker. Locks: see tick_pass.
create or replace function tidemill.ticker_pass(i_holder uuid, i_epoch bigint)
returns table (queue_name text, tick_id bigint, new_events bigint, problem text)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform tidemill.require_ticker(i_holder, i_epoch);
    if tidemill.ticker_sleeps() then
        perform setval('tidemill.doorbell', 0);
    end if;
    return query select * from tidemill.tick_pass();
end
$$;
