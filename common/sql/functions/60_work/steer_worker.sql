-- Function: tidemill.steer_worker(instance, state)
--
--   Remembers what a worker is to be told: 'quiet' or 'terminate'; 'run' takes the order
--   back. The last order counts. Forgets orders of 30 days ago: their workers are long gone.
--
-- Errors: 23514 for any other state
-- Who: tidemill_dispatcher. Locks: the worker's row, and old rows with SKIP LOCKED.
create or replace function tidemill.steer_worker(i_instance uuid, i_state text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, tidemill, pg_temp
as $$
begin
    delete from tidemill.steering s
     using (select o.instance from tidemill.steering o
             where o.at < clock_timestamp() - interval '30 days' and o.instance <> i_instance
               for update skip locked) old
     where s.instance = old.instance;
    if i_state = 'run' then
        delete from tidemill.steering s where s.instance = i_instance;
    else
        insert into tidemill.steering as s (instance, state) values (i_instance, i_state)
            on conflict (instance) do update set state = excluded.state, at = excluded.at;
    end if;
end;
$$;
