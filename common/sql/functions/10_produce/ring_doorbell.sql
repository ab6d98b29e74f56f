-- ring_doorbell: end the ticker's sleep when this transaction commits, if it sleeps and the queue has a doorbell. True if
-- it will ring. A hint that any number of calls in a transaction send once; nothing is lost without it.
-- Callers: pgq_writer, tidemill_producer, after COPY or an INSERT into pgq.current_event_table; our own functions that
-- insert. Locks: none; a transaction that rings cannot be prepared (PREPARE TRANSACTION), and its commit waits for those of
-- others that ring.
create or replace function tidemill.ring_doorbell(i_queue text)
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if tidemill.ticker_sleeps() and exists (
        select 1 from pgq.queue q join tidemill.job_queue j on j.queue_id = q.queue_id
        where q.queue_name = i_queue and j.doorbell)
    then
        perform pg_notify('tidemill_doorbell', '');
        return true;
    end if;
    return false;
end
$$;
