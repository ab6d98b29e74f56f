-- insert_event: put one event into a queue, as part of the caller's transaction. Returns the event's id.
-- Callers: pgq_writer. Locks: the event table, as any insert does.
--
-- The transaction id comes first, the queue's row in a later statement: see insert_event_raw. The function insert_static
-- is written by make_inserts. PgQ's own users replace the second of these functions to catch what triggers insert, so
-- it is never written again but by an installation, and everything goes through it.
-- The first one pins no search_path, which would cost more than the rest of it: its one name is qualified.
create or replace function pgq.insert_event(queue_name text, ev_type text, ev_data text)
returns bigint
language plpgsql
as $$
begin
    return pgq.insert_event(queue_name, ev_type, ev_data, null, null, null, null);
end
$$;

create or replace function pgq.insert_event(
    queue_name text, ev_type text, ev_data text, ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return tidemill.insert_static(txid_current(), queue_name, ev_type, ev_data,
                                  ev_extra1, ev_extra2, ev_extra3, ev_extra4);
end
$$;
