-- hold_ticker: take or prolong this database's ticker term. Returns the epoch when i_holder has the term until
-- now + i_term_ms, null when another holder's term has not ended.
-- Callers: tidemill_ticker. Locks: the one row, skipped when another session has it.
-- The epoch rises with each change of the holder and never falls; all times are the database's.
create or replace function tidemill.hold_ticker(i_holder uuid, i_term_ms integer)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_until timestamptz := clock_timestamp() + i_term_ms * interval '1 millisecond';
    v_epoch bigint;
begin
    -- A standby asks often: it looks before it locks.
    if exists (
        select 1 from tidemill.ticker_term
        where holder <> i_holder
          and until between clock_timestamp() and clock_timestamp() + interval '1 hour')
    then
        return null;
    end if;
    insert into tidemill.ticker_term as t (holder, epoch, until) values (i_holder, 1, v_until)
    on conflict on constraint ticker_term_pkey do update
        set holder = excluded.holder, until = excluded.until,
            epoch = t.epoch + case when t.holder = excluded.holder then 0 else 1 end
        -- An end that is impossibly far away was written before the clock went back.
        where t.holder = excluded.holder
           or t.until not between clock_timestamp() and clock_timestamp() + interval '1 hour'
    returning t.epoch into v_epoch;
    return v_epoch;
end
$$;
