-- Function: tidemill.owner_evict(queue_id)
--
--   Terminates the backends that hold the fence of a job queue whose owner's term has
--   ended, so that a hung flush cannot keep a successor out. Works on backends of roles the
--   caller may signal.
--
-- Returns: how many backends were told to end
-- Who: tidemill_dispatcher. Locks: none.
create or replace function tidemill.owner_evict(i_queue_id int4)
returns int4
language sql
volatile
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
    select count(pg_terminate_backend(l.pid))::int4
      from pg_locks l
      join tidemill.owner o on o.queue_id = i_queue_id and o.until < clock_timestamp()
     where l.locktype = 'advisory' and l.database = (select d.oid from pg_database d where d.datname = current_database())
       and l.classid = 7465002 and l.objid = i_queue_id::oid and l.objsubid = 2
       and l.granted and l.pid <> pg_backend_pid();
$$;
