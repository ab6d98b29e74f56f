-- Function: tidemill.owner_renew(queue_id, epoch, term_ms, low_water)
--
--   Extends the owner's term and moves the low-water mark (the cursor of the consumer
--   'tidemill.dispatcher'), forward only. About once a second, never per job.
--
-- Parameters: i_low_water - highest tick below which every entry is resolved and committed, or NULL
-- Errors: TM001 when the epoch has moved on; TM006
-- Who: tidemill_dispatcher. Locks: the fence, shared, in an earlier statement than the check.
create or replace function tidemill.owner_renew(i_queue_id int4, i_epoch int8, i_term_ms int4, i_low_water int8)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
begin
    perform tidemill.fence(i_queue_id, i_epoch);
    update tidemill.owner o set until = clock_timestamp() + i_term_ms * interval '1 ms'
     where o.queue_id = i_queue_id and o.epoch = i_epoch;
    if i_low_water is not null then
        update pgq.subscription s set sub_last_tick = i_low_water, sub_active = clock_timestamp()
          from tidemill.job_queue j, pgq.consumer c
         where j.queue_id = i_queue_id and s.sub_queue = j.queue_id and s.sub_consumer = c.co_id
           and c.co_name = 'tidemill.dispatcher' and s.sub_last_tick < i_low_water;
    end if;
end;
$$;
