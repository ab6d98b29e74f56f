-- set_consumer_paused: a cascaded consumer is to wait, or to go on; it says uptodate when it has seen that.
-- Callers: pgq_writer, pgq_admin. Locks: the consumer's row.
-- Codes: 200; 201 it was so; 404 no such consumer.
create or replace function pgq_node.set_consumer_paused(
    in i_queue_name text, in i_consumer_name text, in i_paused boolean, out ret_code integer, out ret_note text)
returns record
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_word text := case when i_paused then 'paused' else 'resumed' end;
    v_is   boolean;
begin
    select s.paused into v_is from pgq_node.local_state s
    where s.queue_name = i_queue_name and s.consumer_name = i_consumer_name for update;
    if not found then
        ret_code := 404;
        ret_note := 'Unknown consumer: ' || i_consumer_name;
    elsif v_is = i_paused then
        ret_code := 201;
        ret_note := format('Consumer %s already %s', i_consumer_name, v_word);
    else
        update pgq_node.local_state s set paused = i_paused, uptodate = false
        where s.queue_name = i_queue_name and s.consumer_name = i_consumer_name;
        ret_code := 200;
        ret_note := format('Consumer %s tagged as %s', i_consumer_name, v_word);
    end if;
end
$$;
