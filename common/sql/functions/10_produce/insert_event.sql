-- insert_event: put one event into a queue, as part of the caller's transaction. Returns the event's id.
-- Callers: pgq_writer. Locks: the event table, as any insert does.
--
-- The form with seven arguments is written by make_insert_event, and may be replaced by anybody who wants to catch every
-- event, also the triggers': everything goes through it. This one pins no search_path, which would cost more than the
-- rest of it: its one name is qualified.
create or replace function pgq.insert_event(queue_name text, ev_type text, ev_data text)
returns bigint
language plpgsql
as $$
begin
    return pgq.insert_event(queue_name, ev_type, ev_data, null, null, null, null);
end
$$;
