-- idle_tick_due: PgQ's rule for a queue without new events: the gaps between ticks double up to the idle period.
-- Callers: ticker. Locks: none. A clock that went back (negative lag) makes a tick due at once.
create or replace function tidemill.idle_tick_due(i_lag interval, i_gap interval, i_max_lag interval, i_idle_period interval)
returns boolean
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return i_lag is null or i_gap is null or i_lag < '0'
        or (i_lag >= i_max_lag / 2 and (i_lag >= i_gap * 2 or i_lag >= i_idle_period));
end
$$;
