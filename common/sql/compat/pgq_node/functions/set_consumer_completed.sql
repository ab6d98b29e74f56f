-- set_consumer_completed: the work up to a tick is done. Called in the transaction that did it, so that a batch which
-- comes again is known. Ends the error.
-- Callers: pgq_writer, pgq_admin. Locks: the consumer's row.
-- Codes: 100; 404 no such consumer.
create or replace function pgq_node.set_consumer_completed(
    in i_queue_name text, in i_consumer_name text, in i_tick_id bigint, out ret_code integer, out ret_note text)
returns record
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update pgq_node.local_state s set last_tick_id = i_tick_id, cur_error = null
    where s.queue_name = i_queue_name and s.consumer_name = i_consumer_name;
    if found then
        ret_code := 100;
        ret_note := format('Consumer %s completed tick = %s', i_consumer_name, i_tick_id);
    else
        ret_code := 404;
        ret_note := format('Consumer not known: %s/%s', i_queue_name, i_consumer_name);
    end if;
end
$$;
