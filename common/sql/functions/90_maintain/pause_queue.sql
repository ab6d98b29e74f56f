-- Function: tidemill.pause_queue(queue_id, types, keys, is_paused)
--
--   Pauses a job queue, or takes that back: all of it, or some types and keys of its jobs, each
--   independent of the others. What is paused is not handed out; everything else goes on.
--   The owner hears of it within a moment.
--
-- Parameters: i_types, i_keys - null both: the queue as a whole
-- Returns: what is paused now, as tidemill.dispatch_paused
-- Errors: TM004 when the queue is no job queue; 54000 when more than 1,000 types or keys would be paused
-- Who: pgq_admin, tidemill_dispatcher. Locks: the queue's row in tidemill.job_queue.
create or replace function tidemill.pause_queue(i_queue_id int4, i_types text[], i_keys text[], i_is_paused bool)
returns jsonb
language plpgsql
volatile
security definer
set search_path = pg_catalog, tidemill, pg_temp
as $$
declare
    c_names constant int4 := 1000;
begin
    update tidemill.job_queue j set pause_no = j.pause_no + 1 where j.queue_id = i_queue_id;
    if not found then
        raise exception 'queue % is not a job queue', i_queue_id using errcode = 'TM004';
    end if;
    if i_is_paused then
        insert into tidemill.paused (queue_id, kind, name)
        select i_queue_id, 'queue', '' where i_types is null and i_keys is null
        union select i_queue_id, 'type', t from unnest(i_types) t
        union select i_queue_id, 'key', k from unnest(i_keys) k
        on conflict do nothing;
        if exists (select 1 from tidemill.paused p where p.queue_id = i_queue_id group by p.kind having count(*) > c_names) then
            raise exception 'at most % types and % keys of a queue can be paused', c_names, c_names using errcode = '54000';
        end if;
    else
        delete from tidemill.paused p
         where p.queue_id = i_queue_id
           and (   (p.kind = 'queue' and i_types is null and i_keys is null)
                or (p.kind = 'type' and p.name = any (i_types))
                or (p.kind = 'key' and p.name = any (i_keys)));
    end if;
    return tidemill.dispatch_paused(i_queue_id);
end;
$$;
