-- Function: tidemill.unique_take(queue_id, event_seq, key)
--
--   Takes a unique key for a new job, or finds the job that holds it. A streamed replace may hand the
--   key of the job that it replaces on to one of its jobs: finish_stream does, and the id is kept for it
--   in the setting "tidemill.heir".
--
-- Returns: o_job - the new job's id, or that of the job that is there; o_is_new
-- Errors: 55P03 when an open transaction takes or releases the key, and lock_timeout is over
-- Who: called by insert_unique_jobs only. Locks: waits for the open transaction that has the same key.
create or replace function tidemill.unique_take(i_queue_id int4, i_event_seq regclass, i_key text, out o_job int8, out o_is_new bool)
language plpgsql
volatile
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_holder int8;
    v_heir   int8;
begin
    loop
        -- Each statement sees what was committed before it: a key that is there, or was released meanwhile.
        select u.job_id into v_holder from tidemill.unique_key u where u.queue_id = i_queue_id and u.key = i_key;
        exit when found;
        o_job := coalesce(o_job, nextval(i_event_seq));
        insert into tidemill.unique_key (queue_id, key, job_id) values (i_queue_id, i_key, o_job)
        on conflict on constraint unique_key_pkey do nothing;
        if found then
            o_is_new := true;
            return;
        end if;
    end loop;
    if current_setting('tidemill.replacing', true) is distinct from i_queue_id || ':' || v_holder then
        o_job := v_holder;
        o_is_new := false;
        return;
    end if;
    v_heir := nullif(current_setting('tidemill.heir', true), '')::int8;
    o_is_new := v_heir is null;
    o_job := coalesce(v_heir, nextval(i_event_seq));
    perform set_config('tidemill.heir', o_job::text, true);
end;
$$;
