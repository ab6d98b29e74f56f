-- Make the real PgQ's log ours, in place and on request only: its tables and functions leave the extension and stay where
-- they are, with every event and cursor; the rest of this transaction replaces the functions. Producers and consumers
-- see either the old functions or the new ones.
-- Needs the rights of the extension's owner. Waits at most 5 s for transactions that use the tables. Other extensions that
-- build on PgQ refuse it.
do $adopt$
declare
    r record;
begin
    if coalesce(current_setting('tidemill.adopt', true), '') <> 'on' or to_regprocedure('pgq.version()') is null
        or exists (select 1 from tidemill.migration where version = 1 and checksum <> '')
    then
        return;
    end if;
    perform set_config('lock_timeout', '5s', true);
    lock table pgq.tick, pgq.retry_queue, pgq.subscription in access exclusive mode;
    for r in
        select o.type, o.identity
        from pg_extension e
        join pg_depend d on d.refclassid = 'pg_extension'::regclass and d.refobjid = e.oid and d.deptype = 'e'
        cross join lateral pg_identify_object(d.classid, d.objid, 0) o
        where e.extname = 'pgq'
    loop
        execute format('alter extension pgq drop %s %s', r.type, r.identity);
    end loop;
    drop extension if exists pgq;
    -- See migration 1: each of them would lock the queue's row at every tick and retry.
    alter table pgq.tick drop constraint if exists tick_queue_fkey;
    alter table pgq.retry_queue drop constraint if exists rq_queue_id_fkey;
    alter table pgq.subscription set (fillfactor = 50);
    -- See migration 12.
    alter table pgq.subscription drop constraint if exists subscription_batch_idx;
    perform set_config('lock_timeout', '0', true), set_config('tidemill.adopted', 'on', true);
end
$adopt$;
