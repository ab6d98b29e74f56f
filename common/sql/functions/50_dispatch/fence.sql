-- Function: tidemill.fence(queue_id, epoch)
--
--   Admits a write of the owner with this epoch and keeps it valid until the end of the
--   transaction: the shared lock first, the epoch in a later statement. Lock and check in
--   one statement would accept a stale owner, because the snapshot would be older than the
--   lock; so would a STABLE function.
--
-- Errors: TM001 'job queue … has epoch n, not m'; TM004 when it is no job queue; TM006
-- Who: called by the fenced functions only. Locks: advisory (7465002, queue_id) shared.
create or replace function tidemill.fence(i_queue_id int4, i_epoch int8)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_epoch int8;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'a fenced write needs READ COMMITTED, not %', current_setting('transaction_isolation') using errcode = 'TM006';
    end if;
    perform set_config('synchronous_commit', 'on', true), pg_advisory_xact_lock_shared(7465002, i_queue_id);
    select o.epoch into v_epoch from tidemill.owner o where o.queue_id = i_queue_id;
    if not found then
        raise exception 'queue % is not a job queue', i_queue_id using errcode = 'TM004';
    end if;
    if v_epoch <> i_epoch then
        raise exception 'job queue % has epoch %, not %', i_queue_id, v_epoch, i_epoch using errcode = 'TM001';
    end if;
end;
$$;
