-- batch_event_tables: the event tables in which a batch's events are: those that its ticks say, and any other one that
-- holds an event written under a stale table name.
-- Callers: pgq_reader. Locks: none.
create or replace function pgq.batch_event_tables(x_batch_id bigint)
returns setof text
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    b       record;
    v_table text;
    v_found boolean;
begin
    select s.sub_id, s.sub_queue, f.tick_snapshot as from_snapshot, t.tick_snapshot as to_snapshot, q.queue_data_pfx,
           q.queue_ntables, q.queue_cur_table, q.queue_switch_step1, q.queue_switch_step2,
           (select r.role from tidemill.consumer_role r where r.sub_id = s.sub_id) as role
    into b
    from pgq.subscription s
    join pgq.queue q on q.queue_id = s.sub_queue
    join pgq.tick f on f.tick_queue = s.sub_queue and f.tick_id = s.sub_last_tick
    join pgq.tick t on t.tick_queue = s.sub_queue and t.tick_id = s.sub_next_tick
    where s.ctid = tidemill.batch_row(x_batch_id);
    if not found then
        raise exception 'Cannot find data for batch %', x_batch_id;
    end if;
    if b.role is not null then
        perform tidemill.require_consumer_role(b.role, b.sub_id);
    end if;
    for n in 0 .. b.queue_ntables - 1 loop
        v_table := b.queue_data_pfx || '_' || n;
        v_found :=
            (n = b.queue_cur_table and txid_snapshot_xmax(b.to_snapshot) >= b.queue_switch_step1)
            or (n = (b.queue_cur_table + b.queue_ntables - 1) % b.queue_ntables
                and (b.queue_switch_step2 is null or txid_snapshot_xmin(b.from_snapshot) <= b.queue_switch_step2));
        if not v_found then
            execute format(
                'select exists (select 1 from %s where ev_txid >= $1 and ev_txid < $2'
                ' and txid_visible_in_snapshot(ev_txid, $4) and not txid_visible_in_snapshot(ev_txid, $3))',
                pgq.quote_fqname(v_table))
            into v_found
            using txid_snapshot_xmin(b.from_snapshot), txid_snapshot_xmax(b.to_snapshot), b.from_snapshot, b.to_snapshot;
        end if;
        if v_found then
            return next v_table;
        end if;
    end loop;
end
$$;
