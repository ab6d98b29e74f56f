-- ticker_sleeps: has the ticker announced that it sleeps now? Null and false: it has not. What ends further away than any
-- announcement, in more than ten seconds, was written before the clock was set back.
-- Callers: what inserts into a queue with a doorbell; ticker_pass, release_ticker. Locks: none.
--
-- It pins no search_path, so that it is inlined: 0.4 µs. All names in it are qualified, operators too: hence abs, and not
-- between.
create or replace function tidemill.ticker_sleeps()
returns boolean
language sql volatile
as $$
    select pg_catalog.abs(pg_catalog.pg_sequence_last_value('tidemill.doorbell')
                          operator(pg_catalog.-) (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())
                                                  operator(pg_catalog.*) 1000 operator(pg_catalog.+) 5000))
           operator(pg_catalog.<=) 5000;
$$;
