-- _remake_inserts: writes the functions of make_inserts again when a queue is gone or has other tables.
-- Callers: pgq.queue's own trigger; create_queue calls make_inserts itself, when the tables are there. Locks: as it.
create or replace function pgq._remake_inserts()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform tidemill.make_inserts(array[old.queue_id >> 4, case when tg_op = 'UPDATE' then new.queue_id >> 4 else old.queue_id >> 4 end]);
    return null;
end
$$;

create or replace trigger remake_inserts
after delete or update of queue_id, queue_ntables, queue_data_pfx, queue_event_seq on pgq.queue
for each row execute function pgq._remake_inserts();

-- Also where they are there already: another version may write them otherwise.
do $inserts$ begin perform tidemill.make_inserts(); end $inserts$;
