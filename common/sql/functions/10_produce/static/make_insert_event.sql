-- make_insert_event: writes pgq.insert_event with seven arguments for the queues that there are. PgQ's own users replace
-- that function to catch every event, also the triggers': theirs is left alone, but by an installation (i_anyway).
-- Callers: create_queue, pgq.queue's own trigger, make_inserts. Locks: advisory lock 7465004, because two transactions
-- that replace one function at a time fail ("tuple concurrently updated").
create or replace function tidemill.make_insert_event(i_anyway boolean default false)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_source text;
    v_now    text;
begin
    perform pg_advisory_xact_lock(7465004);
    v_source := tidemill.insert_event_source();
    v_now := (select p.prosrc from pg_proc p
              where p.oid = to_regprocedure('pgq.insert_event(text, text, text, text, text, text, text)'));
    if v_now is not distinct from v_source
        or not i_anyway and split_part(v_now, E'\n', 1) <> split_part(v_source, E'\n', 1)
    then
        return;
    end if;
    execute format('create or replace function pgq.insert_event(queue_name text, ev_type text, ev_data text,'
                   ' ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text) returns bigint'
                   ' language plpgsql security definer set search_path = pg_catalog, pg_temp as %L', v_source);
end
$$;
