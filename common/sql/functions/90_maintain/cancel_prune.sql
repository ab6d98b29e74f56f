-- Function: tidemill.cancel_prune(queue_id)
--
--   Forgets cancellations that have nothing left to hit. Of a key: the low-water mark sees every
--   transaction that the snapshot could, so all that it wrote has come to an end. Of a job: it is not
--   in the waiting room, was not there at an earlier look either, and the mark sees all that was
--   committed before that look.
--
-- Returns: {"keys": [...], "jobs": [...]}: what was forgotten
-- Who: called by journal_write only, behind the fence. Locks: the rows it deletes, which nobody else touches.
create or replace function tidemill.cancel_prune(i_queue_id int4)
returns jsonb
language plpgsql
volatile
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_below int8;
    v_keys  int8[];
    v_jobs  int8[];
begin
    select txid_snapshot_xmin(t.tick_snapshot) into v_below
      from tidemill.job_queue j
      join pgq.subscription s on s.sub_queue = j.queue_id and s.sub_id = j.sub_id
      join pgq.tick t on t.tick_queue = s.sub_queue and t.tick_id = s.sub_last_tick
     where j.queue_id = i_queue_id;
    with gone as (
        delete from tidemill.cancellation c
         where c.queue_id = i_queue_id and txid_snapshot_xmax(c.snapshot) <= v_below
        returning c.cancel_key
    )
    select array_agg(gone.cancel_key) into v_keys from gone;
    with gone as (
        delete from tidemill.cancelling c
         where c.queue_id = i_queue_id and c.unseen <= v_below
           and not exists (select 1 from tidemill.waiting w where w.queue_id = c.queue_id and w.job_id = c.job_id)
        returning c.job_id
    )
    select array_agg(gone.job_id) into v_jobs from gone;
    update tidemill.cancelling c set unseen = txid_snapshot_xmax(txid_current_snapshot())
     where c.queue_id = i_queue_id and c.unseen is null
       and not exists (select 1 from tidemill.waiting w where w.queue_id = c.queue_id and w.job_id = c.job_id);
    return jsonb_build_object('keys', coalesce(to_jsonb(v_keys), '[]'), 'jobs', coalesce(to_jsonb(v_jobs), '[]'));
end;
$$;
