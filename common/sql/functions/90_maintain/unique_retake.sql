-- Function: tidemill.unique_retake(queue_id, job_id, extra1)
--
--   Takes the unique key of a job that is to live again.
--
-- Returns: false - another job has it, or an open transaction that is not over within 50 ms
-- Who: called by redrive_dead only, for rows whose options may have a key. Locks: see above.
create or replace function tidemill.unique_retake(i_queue_id int4, i_job_id int8, i_extra1 text)
returns bool
language plpgsql
volatile
set search_path = pg_catalog, tidemill, pg_temp
set lock_timeout = '50ms'
as $$
declare
    v_key text := tidemill.unique_option(i_extra1);
begin
    if v_key is null then
        return true;
    end if;
    insert into tidemill.unique_key (queue_id, key, job_id) values (i_queue_id, v_key, i_job_id)
    on conflict on constraint unique_key_pkey do nothing;
    return found;
exception when lock_not_available then
    return false;
end;
$$;
