-- Function: tidemill.owner_release(queue_id, epoch)
--
--   Ends the owner's own term at once, after its last flush: a rolling restart hands over
--   without waiting. Nothing happens when the epoch has moved on.
--
-- Who: tidemill_dispatcher. Locks: the owner row.
create or replace function tidemill.owner_release(i_queue_id int4, i_epoch int8)
returns void
language sql
volatile
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
    update tidemill.owner o set until = '-infinity' where o.queue_id = i_queue_id and o.epoch = i_epoch;
$$;
