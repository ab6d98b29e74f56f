-- ticker_due: put what is due back into the log: jobs of the waiting room (at most i_limit) and retry events. How many
-- of each. TM001 for a ticker without the term. It must end before the tick that is to see them begins.
-- Callers: tidemill_ticker. Locks: see promote_due and maint_retry_events.
create or replace function tidemill.ticker_due(
    in i_holder uuid, in i_epoch bigint, in i_limit integer, out promoted integer, out retried integer)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform tidemill.require_ticker(i_holder, i_epoch);
    promoted := tidemill.promote_due(i_limit);
    retried := pgq.maint_retry_events();
end
$$;
