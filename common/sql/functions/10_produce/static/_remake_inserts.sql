-- _remake_inserts: writes the functions of make_inserts again when a queue is gone, has another current table, or other
-- rules.
-- Callers: pgq.queue's own trigger, always; create_queue writes its own, when the tables are there. Locks: as them.
create or replace function pgq._remake_inserts()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform tidemill.make_insert_queue(old.queue_id);
    if tg_op = 'UPDATE' and new.queue_id <> old.queue_id then
        perform tidemill.make_insert_queue(new.queue_id);
    end if;
    -- Not for a rotation: that must wait for nobody.
    if tg_op = 'DELETE'
        or (old.queue_id, old.queue_name, old.queue_data_pfx, old.queue_event_seq, old.queue_disable_insert,
            old.queue_per_tx_limit) is distinct from
           (new.queue_id, new.queue_name, new.queue_data_pfx, new.queue_event_seq, new.queue_disable_insert,
            new.queue_per_tx_limit)
    then
        perform tidemill.make_insert_event();
    end if;
    return null;
end
$$;

create or replace trigger remake_inserts
after delete or update of queue_id, queue_name, queue_cur_table, queue_data_pfx, queue_event_seq, queue_disable_insert,
    queue_per_tx_limit on pgq.queue
for each row execute function pgq._remake_inserts();
alter table pgq.queue enable always trigger remake_inserts;

-- Also where they are there already: another version may write them otherwise.
do $inserts$ begin perform tidemill.make_inserts(); end $inserts$;
