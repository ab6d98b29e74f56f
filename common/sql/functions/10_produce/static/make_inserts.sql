-- make_inserts: writes the functions by which insert_event inserts without a dynamic statement: tidemill.insert_group_<n>
-- for the queues n * 16 to n * 16 + 15, and tidemill.insert_static, which finds the group.
-- Callers: create_queue, the trigger below, the installer. Locks: advisory lock 7465004, because two transactions that
-- replace one function at a time fail ("tuple concurrently updated").
--
-- Sixteen queues a function: making a queue in a database with many then writes a few kilobytes, and other sessions
-- compile and plan only that again. A function is replaced only if its text is another one.
--
-- A session may still run the text from before: the functions therefore go by the queue's id, which is never used again,
-- and each looks whether it is the one it knows. What it does not know goes to insert_event_raw.
create or replace function tidemill.make_inserts(i_groups integer[] default null)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set check_function_bodies = off
as $$
declare
    v_groups integer[];
    v_group  integer;
    v_before text;
    v_name   text;
begin
    perform pg_advisory_xact_lock(7465004);
    select coalesce(array_agg(distinct queue_id >> 4), '{}') into v_groups from pgq.queue;
    foreach v_group in array coalesce(i_groups, v_groups) loop
        perform tidemill.make_insert('insert_group_' || v_group, 'i_queue integer, i_table integer, ',
                                     tidemill.insert_group_source(v_group));
    end loop;
    v_before := coalesce((select prosrc from pg_proc
                          where proname = 'insert_static' and pronamespace = 'tidemill'::regnamespace), '');
    perform tidemill.make_insert('insert_static', '', tidemill.insert_static_source(v_groups));

    -- Functions without a queue go when the function that finds them has forgotten them in an earlier transaction.
    for v_name in
        select p.oid::regprocedure::text from pg_proc p
        where p.pronamespace = 'tidemill'::regnamespace and p.proname ~ '^insert_group_[0-9]+$'
          and substr(p.proname, 14)::bigint <> all (v_groups) and strpos(v_before, p.proname || '(') = 0
    loop
        execute format('drop function %s', v_name);
    end loop;
end
$$;
