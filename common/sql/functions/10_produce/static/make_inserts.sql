-- make_inserts: writes the functions by which an event is inserted with one statement: pgq.insert_event with seven
-- arguments, which finds the queue's name by halving a list, and tidemill.insert_queue_<id>, which has the INSERT. So
-- nothing is read for an event, and no statement is planned for it.
-- Callers: the installer; create_queue and pgq.queue's own trigger write those of one queue. Locks: advisory lock 7465004 (see
-- make_insert_event), then pgq.queue, against changes of queues meanwhile.
--
-- Why no event goes into a table that was rotated out for good: a rotation writes the queue's function anew. Sessions
-- hear of it when they take a lock. insert_event takes the transaction's id, then an event number, which locks the
-- sequence, and only then looks for the text of the queue's function. So whose transaction id is later than the switch
-- known to all (queue_switch_step2) has heard of it. Should one write under the old name all the same, it is read and
-- kept like any event written under a stale name (see batch_event_tables, rotate).
create or replace function tidemill.make_inserts()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_name text;
begin
    perform pg_advisory_xact_lock(7465004);
    lock table pgq.queue in share row exclusive mode;
    perform tidemill.make_insert_queue(q.queue_id) from pgq.queue q order by q.queue_id;
    perform tidemill.make_insert_event(true);
    -- Those of queues that are gone, and the generated functions of earlier versions.
    for v_name in
        select p.oid::regprocedure::text from pg_proc p
        where p.pronamespace = 'tidemill'::regnamespace
          and p.proname ~ '^insert_(static|(group|queue)_[0-9]+)$'
          and p.proname not in (select 'insert_queue_' || q.queue_id from pgq.queue q)
    loop
        execute format('drop function %s', v_name);
    end loop;
end
$$;
