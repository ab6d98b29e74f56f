-- make_insert_queue: writes the generated function of one queue, if its text is not what is there, or drops it with the
-- queue. Only the owner may call it.
-- Callers: create_queue, pgq.queue's own trigger, make_inserts; each has written the queue's row in the same transaction
-- or locked its table, so nobody else writes the function. Locks: none of its own: a rotation waits for nobody here.
--
-- It pins no search_path, which would be set and reset for each event: all that is in it is qualified, and insert_event,
-- which calls it with the owner's rights, pins its own.
create or replace function tidemill.make_insert_queue(i_queue_id integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_function text := format('tidemill.insert_queue_%s(i_txid bigint, i_id bigint, i_type text, i_data text,'
                              ' i_extra1 text, i_extra2 text, i_extra3 text, i_extra4 text)', i_queue_id);
    v_source   text := tidemill.insert_queue_source(i_queue_id);
begin
    if v_source is null then
        execute format('drop function if exists %s', v_function);
    elsif not exists (
        select 1 from pg_proc p where p.pronamespace = 'tidemill'::regnamespace
            and p.proname = 'insert_queue_' || i_queue_id and p.prosrc = v_source)
    then
        execute format('create or replace function %s returns bigint language plpgsql as %L', v_function, v_source);
        execute format('revoke all on function %s from public', v_function);
    end if;
end
$$;
