-- confirm_ticks: write something whose commit waits for the disk and for a synchronous standby, so that all ticks before
-- it are safe where they may not have been. It prolongs the term by i_term_ms; TM001 for a ticker without one.
-- Callers: tidemill_ticker, after a tick whose wait for the standby was given up (PostgreSQL only warns of that, and the
-- tick is visible). Locks: the row of the term.
create or replace function tidemill.confirm_ticks(i_holder uuid, i_epoch bigint, i_term_ms integer)
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform tidemill.require_ticker(i_holder, i_epoch);
    if current_setting('synchronous_commit') not in ('on', 'remote_apply') then
        perform set_config('synchronous_commit', 'on', true);
    end if;
    update tidemill.ticker_term set until = clock_timestamp() + i_term_ms * interval '1 millisecond'
    where holder = i_holder and epoch = i_epoch;
end
$$;
