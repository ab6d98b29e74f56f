-- Function: tidemill.waiting_leases()
--
--   Who holds the leases that live in the waiting room, and how many of each queue. Of more than
--   100,000 leases the rest is not counted.
--
-- Returns: o_holder - {"instance", "host", "pid"}
-- Who: tidemill_dispatcher, tidemill_monitor. Locks: none. By the index on what is leased there.
create or replace function tidemill.waiting_leases(out o_queue text, out o_holder jsonb, out o_count int8)
returns setof record
language sql
stable
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
set enable_seqscan = off
set jit = off
as $$
    select q.queue_name, w.holder, count(*)
      from (select w.queue_id, w.holder from tidemill.waiting w
             where w.kind = 'leased' and w.due > clock_timestamp() limit 100000) w
      join pgq.queue q on q.queue_id = w.queue_id
     where w.holder is not null
     group by q.queue_name, w.holder;
$$;
