-- Function: tidemill.owner_take(queue_id, seen_epoch, holder, address, term_ms)
--
--   Takes over a job queue whose owner's term has ended, or that this holder owns itself
--   (after any doubt). The exclusive fence waits for the flush of the old owner that may be
--   in flight; in a later statement the epoch rises. The caller folds log and journal
--   afterwards, in a new transaction.
--
-- Returns: the new epoch, or NULL when somebody else was faster or the term still runs
-- Errors: 55P03 when the fence was not free within 500 ms (an old flush hangs: see owner_evict); TM003 (needs a rebase); TM006
-- Who: tidemill_dispatcher. Locks: advisory (7465002, queue_id) exclusive until the end of the transaction.
create or replace function tidemill.owner_take(i_queue_id int4, i_seen_epoch int8, i_holder uuid, i_address text, i_term_ms int4)
returns int8
language plpgsql
volatile
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_epoch int8;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'owner_take needs READ COMMITTED, not %', current_setting('transaction_isolation') using errcode = 'TM006';
    end if;
    perform set_config('lock_timeout', '500ms', true), set_config('synchronous_commit', 'on', true);
    -- The journal of another cluster does not fit to what would be written here.
    perform tidemill.require_identity();
    perform pg_advisory_xact_lock(7465002, i_queue_id);
    -- A later statement: its snapshot is younger than the lock.
    update tidemill.owner o
       set epoch = o.epoch + 1, holder = i_holder, address = i_address,
           until = clock_timestamp() + i_term_ms * interval '1 ms'
     where o.queue_id = i_queue_id and o.epoch = i_seen_epoch
       and (o.until < clock_timestamp() or o.holder = i_holder)
    returning o.epoch into v_epoch;
    return v_epoch;
end;
$$;
