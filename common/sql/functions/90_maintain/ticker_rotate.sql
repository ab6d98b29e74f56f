-- ticker_rotate, ticker_rotated: tidemill.rotate and rotation's step 2 for the ticker that holds the term; TM001 for any
-- other. Step 2 in a later transaction than every rotation before it.
-- Callers: tidemill_ticker. Locks: see tidemill.rotate.
create or replace function tidemill.ticker_rotate(i_holder uuid, i_epoch bigint, i_queue text)
returns text
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform tidemill.require_ticker(i_holder, i_epoch);
    return tidemill.rotate(i_queue);
end
$$;

create or replace function tidemill.ticker_rotated(i_holder uuid, i_epoch bigint)
returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform tidemill.require_ticker(i_holder, i_epoch);
    perform pgq.maint_rotate_tables_step2();
end
$$;
