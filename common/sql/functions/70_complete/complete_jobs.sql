-- Function: tidemill.complete_jobs(leases)
--
--   Completes jobs in the worker's own transaction, together with their effects: the
--   effects happen exactly once. Only leases grabbed with "transactional": true, which live
--   in the waiting room; whoever deletes that row under its lease decides.
--
-- Parameters: i_leases - the opaque tokens as they came with the jobs
-- Errors: TM002 'lease … is stale: …' for the first lease that has ended, was finished, was
--         taken over, is forged, or was not grabbed as transactional; nothing is completed then
-- Who: tidemill_worker. Locks: the rows of the waiting room it deletes, and of unique keys, until the end of the transaction.
create or replace function tidemill.complete_jobs(i_leases text[])
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_stale text;
begin
    -- Rows in one order, so that two workers' transactions cannot deadlock.
    with lease as materialized (
        select l.token, l.n, p.o_queue_id, p.o_epoch, p.o_no, p.o_job, p.o_put, p.o_attempt, p.o_nonce
          from unnest(i_leases) with ordinality as l (token, n)
          left join lateral tidemill.parse_lease(l.token) p on p.o_transactional
    ), live as materialized (
        select w.queue_id, w.job_id, lease.n
          from lease join tidemill.waiting w
            on w.queue_id = lease.o_queue_id and w.job_id = lease.o_job and w.kind = 'leased'
           and w.lease_epoch = lease.o_epoch and w.lease_no = lease.o_no and w.lease_nonce = lease.o_nonce
           and w.put = lease.o_put + 1 and w.attempt = lease.o_attempt
         where w.due > clock_timestamp()
         order by w.queue_id, w.job_id
           for update of w
    ), gone as (
        delete from tidemill.waiting w using live
         where w.queue_id = live.queue_id and w.job_id = live.job_id
        returning live.n, w.queue_id, w.job_id, w.ev_extra1 like '%"unique"%' as may_hold_key
    ), released as (
        delete from tidemill.unique_key u using gone
         where gone.may_hold_key and u.queue_id = gone.queue_id and u.job_id = gone.job_id
    )
    select min(lease.token) filter (where gone.n is null) into v_stale
      from lease left join gone on gone.n = lease.n;
    if v_stale is not null then
        raise exception 'lease % is stale: it has ended, was finished or taken over, or was not grabbed with "transactional": true', v_stale
            using errcode = 'TM002';
    end if;
end;
$$;
