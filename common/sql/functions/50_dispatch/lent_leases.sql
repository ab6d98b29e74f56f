-- Function: tidemill.lent_leases(queue_id)
--
--   The leases that live in the waiting room, with the types and keys of their jobs: what an owner
--   must count when limits come into force. What is there counts, also if its end has passed: whoever
--   has the row may still complete it.
--
-- Who: tidemill_dispatcher. Locks: none. By the index on what is leased there.
create or replace function tidemill.lent_leases(
    i_queue_id int4, out o_job int8, out o_epoch int8, out o_no int8, out o_type text, out o_key text)
returns setof record
language sql
stable
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
set enable_seqscan = off
set jit = off
as $$
    select w.job_id, w.lease_epoch, w.lease_no, coalesce(w.ev_type, ''), tidemill.option_text(w.ev_extra1, 'key')
      from tidemill.waiting w
     where w.queue_id = i_queue_id and w.kind = 'leased';
$$;
