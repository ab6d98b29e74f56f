-- change_consumer_provider: a cascaded consumer reads from another node; it says uptodate when it has seen that.
-- Callers: pgq_writer, pgq_admin. Locks: the consumer's row.
-- Codes: 200; 404 no such node or consumer.
create or replace function pgq_node.change_consumer_provider(
    in i_queue_name text, in i_consumer_name text, in i_new_provider text, out ret_code integer, out ret_note text)
returns record
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (
        select 1 from pgq_node.node_location l where l.queue_name = i_queue_name and l.node_name = i_new_provider)
    then
        ret_code := 404;
        ret_note := 'New node not found: ' || i_new_provider;
        return;
    end if;
    update pgq_node.local_state s set provider_node = i_new_provider, uptodate = false
    where s.queue_name = i_queue_name and s.consumer_name = i_consumer_name;
    if found then
        ret_code := 200;
        ret_note := 'Consumer provider node set to : ' || i_new_provider;
    else
        ret_code := 404;
        ret_note := format('Unknown consumer: %s/%s', i_queue_name, i_consumer_name);
    end if;
end
$$;
