-- Function: tidemill.still_lent(queue_id, jobs)
--
--   Which leases of these jobs live in the waiting room: the owner, who does not see a worker's own
--   transaction end, asks for some of those it counts.
--
-- Who: tidemill_dispatcher. Locks: none. By the primary key.
create or replace function tidemill.still_lent(i_queue_id int4, i_jobs int8[], out o_epoch int8, out o_no int8)
returns setof record
language sql
stable
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
set enable_seqscan = off
set jit = off
as $$
    select w.lease_epoch, w.lease_no
      from tidemill.waiting w
     where w.queue_id = i_queue_id and w.job_id = any (i_jobs) and w.kind = 'leased';
$$;
