-- make_insert: writes one generated function, if its text is not what is there. Only the owner may call it.
-- Callers: make_inserts. Locks: none of its own.
--
-- It pins no search_path, which would be set and reset for each event: all that is in it is qualified, and insert_event,
-- which calls it with the owner's rights, pins its own.
create or replace function tidemill.make_insert(i_name text, i_arguments text, i_source text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set check_function_bodies = off
as $$
declare
    v_arguments text := i_arguments || 'i_txid bigint, i_queue_name text, i_type text, i_data text,'
                                       ' i_extra1 text, i_extra2 text, i_extra3 text, i_extra4 text';
begin
    if i_source is null or exists (
        select 1 from pg_proc
        where pronamespace = 'tidemill'::regnamespace and proname = i_name and prosrc = i_source)
    then
        return;
    end if;
    execute format('create or replace function tidemill.%I(%s) returns bigint language plpgsql as %L',
                   i_name, v_arguments, i_source);
    execute format('revoke all on function tidemill.%I(%s) from public', i_name, v_arguments);
end
$$;
