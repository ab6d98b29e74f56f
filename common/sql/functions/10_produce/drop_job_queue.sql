-- Function: tidemill.drop_job_queue(queue_id)
--
--   Removes everything of a job queue that is not pgq's: journal, waiting room, unique keys, dead
--   letters, failures, owner. pgq.drop_queue calls it; the queue itself stays.
--
-- Returns: 1 - removed, 0 - it was no job queue
-- Who: the schema's owner only. Locks: the fence exclusively (an owner's flush in flight ends first).
create or replace function tidemill.drop_job_queue(i_queue_id int4)
returns int4
language plpgsql
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_table    text;
    v_doorbell bool;
begin
    perform pg_advisory_xact_lock(7465002, i_queue_id);
    delete from tidemill.job_queue j where j.queue_id = i_queue_id returning j.doorbell into v_doorbell;
    if not found then
        return 0;
    end if;
    if v_doorbell and tidemill.owns_pgq() then
        perform tidemill.make_insert_queue(i_queue_id);
    end if;
    for v_table in
        select c.relname from pg_class c join pg_namespace s on s.oid = c.relnamespace
         where s.nspname = 'tidemill' and c.relkind = 'r' and c.relname ~ format('^journal_%s_[0-9]+$', i_queue_id)
    loop
        execute format('drop table tidemill.%I', v_table);
    end loop;
    delete from tidemill.waiting w where w.queue_id = i_queue_id;
    delete from tidemill.unique_key u where u.queue_id = i_queue_id;
    delete from tidemill.dead d where d.queue_id = i_queue_id;
    delete from tidemill.failure f where f.queue_id = i_queue_id;
    return 1;
end;
$$;
