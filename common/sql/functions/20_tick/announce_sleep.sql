-- announce_sleep: tell producers that the ticker sleeps for the next i_ms milliseconds, unless they know that for half as
-- long at least. An announcement that nobody takes back ends by itself.
-- Callers: tick_look. Locks: none that a producer waits for. Where the sequence has WAL, its record is not waited for.
create or replace function tidemill.announce_sleep(i_ms integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now bigint := date_part('epoch', clock_timestamp()) * 1000;
begin
    if pg_sequence_last_value('tidemill.doorbell') between v_now + i_ms / 2 and v_now + i_ms then
        return;
    end if;
    perform set_config('synchronous_commit', 'off', true);
    perform setval('tidemill.doorbell', v_now + i_ms);
end
$$;
