-- Function: tidemill.promote_due(limit)
--
--   Puts what is due back into the log: delayed jobs whose time has come, retries whose
--   back-off is over, and leases of the waiting room that ended. Delete and insert are one
--   transaction. Parked jobs are never due: see tidemill.unpark.
--
-- Parameters: i_limit - at most so many per call; call again while it returns that many
-- Returns: how many were put into the log
-- Who: tidemill_ticker. Locks: SKIP LOCKED on the rows; never waits for a worker's transaction.
create or replace function tidemill.promote_due(i_limit int4)
returns int4
language plpgsql
volatile
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    -- Read once: a call in the condition could not be looked for in the index.
    v_now timestamptz := clock_timestamp();
    v_due tidemill.waiting[];
begin
    with due as materialized (
        select w.queue_id, w.job_id from tidemill.waiting w
         where w.kind <> 'parked' and w.due <= v_now order by w.due limit i_limit
           for update skip locked
    ), gone as (
        delete from tidemill.waiting w using due
         where w.queue_id = due.queue_id and w.job_id = due.job_id
        returning w as entry
    )
    select array_agg(gone.entry) into v_due from gone;
    if v_due is null then
        return 0;
    end if;

    insert into tidemill.failure (queue_id, job_id, attempt, reason, message, holder)
    select w.queue_id, w.job_id, w.attempt, 'expired',
           case when w.over_at <= w.due then format('the attempt''s time of %s ms was over', tidemill.option_text(w.ev_extra1, 'timeout_ms'))
                else 'the lease ended without a result' end, w.holder
      from unnest(v_due) w where w.kind = 'leased';
    perform tidemill.put_back(v_due);
    return array_length(v_due, 1);
end;
$$;
