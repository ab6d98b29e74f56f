-- current_event_table: where COPY or a multi-row INSERT puts events directly. Good for this transaction only.
-- Callers: pgq_writer. Locks: none.
--
-- It takes the transaction id before it reads the name, see insert_event_raw.
create or replace function pgq.current_event_table(x_queue_name text)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    q record;
begin
    perform txid_current();
    select queue_disable_insert, queue_data_pfx || '_' || queue_cur_table as cur_table
    into q from pgq.queue where queue_name = x_queue_name;
    if not found then
        raise exception 'Event queue not found';
    end if;
    if q.queue_disable_insert and current_setting('session_replication_role') <> 'replica' then
        raise exception 'Writing to queue disabled';
    end if;
    return q.cur_table;
end
$$;
