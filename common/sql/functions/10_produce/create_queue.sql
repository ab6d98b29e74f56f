-- create_queue: make a queue with its event tables and its first tick. 1 = made, 0 = it is there already.
-- Callers: pgq_admin. Locks: one queue is made or dropped at a time per database (advisory lock 7465004).
create or replace function pgq.create_queue(i_queue_name text)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id     integer;
    v_parent text;
    v_child  text;
    v_ntables integer;
begin
    if i_queue_name is null then
        raise exception 'Invalid NULL value';
    end if;
    if i_queue_name !~ '^[A-Za-z0-9_.:-]{1,63}$' then
        raise exception 'invalid queue name: %', quote_literal(left(i_queue_name, 100))
            using errcode = 'invalid_parameter_value',
                  hint = 'A name has 1 to 63 characters of A-Z a-z 0-9 _ . : -';
    end if;
    perform pg_advisory_xact_lock(7465004);
    if exists (select 1 from pgq.queue where queue_name = i_queue_name) then
        return 0;
    end if;
    perform tidemill.record_identity();
    perform tidemill.require_identity();

    v_id := nextval('pgq.queue_queue_id_seq');
    v_parent := 'event_' || v_id;
    insert into pgq.queue (queue_id, queue_name, queue_data_pfx, queue_event_seq, queue_tick_seq)
    values (v_id, i_queue_name, 'pgq.' || v_parent, 'pgq.' || v_parent || '_id_seq', 'pgq.' || v_parent || '_tick_seq')
    returning queue_ntables into v_ntables;

    -- The event sequence begins as "0 was used", so that its last value is always the number of ids given out.
    execute format('create sequence pgq.%I minvalue 0 start 1', v_parent || '_id_seq');
    perform setval(format('pgq.%I', v_parent || '_id_seq')::regclass, 0);
    execute format('create sequence pgq.%I', v_parent || '_tick_seq');

    execute format('create table pgq.%I () inherits (pgq.event_template)', v_parent);
    for n in 0 .. v_ntables - 1 loop
        v_child := v_parent || '_' || n;
        execute format('create table pgq.%I () inherits (pgq.%I)', v_child, v_parent);
        execute format('alter table pgq.%I alter column ev_id set default nextval(%L)',
                       v_child, format('pgq.%I', v_parent || '_id_seq'));
        execute format('create index %I on pgq.%I (ev_txid)', v_child || '_txid_idx', v_child);
    end loop;

    perform pgq.grant_perms(i_queue_name);
    perform pgq.tune_storage(i_queue_name);
    perform tidemill.make_insert_queue(v_id);
    perform tidemill.make_insert_event();
    perform pg_advisory_xact_lock(7465001, v_id);
    perform tidemill.cut_tick(v_id, 0);
    return 1;
end
$$;
