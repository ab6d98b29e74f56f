-- set_consumer_error: why the current batch failed; null ends it.
-- Callers: pgq_writer, pgq_admin. Locks: the consumer's row.
-- Codes: 100; 101 no such consumer, which is not an error of its own.
create or replace function pgq_node.set_consumer_error(
    in i_queue_name text, in i_consumer_name text, in i_error_msg text, out ret_code integer, out ret_note text)
returns record
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update pgq_node.local_state s set cur_error = i_error_msg
    where s.queue_name = i_queue_name and s.consumer_name = i_consumer_name;
    if found then
        ret_code := 100;
        -- Null for null, as in PgQ.
        ret_note := 'Consumer ' || i_consumer_name || ' error = ' || i_error_msg;
    else
        ret_code := 101;
        ret_note := format('Consumer not known, ignoring: %s/%s', i_queue_name, i_consumer_name);
    end if;
end
$$;
