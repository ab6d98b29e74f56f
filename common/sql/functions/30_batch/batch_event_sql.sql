-- batch_event_sql: the query (text) that reads an open batch, ordered by ev_id.
-- Callers: pgq_reader. Locks: none.
create or replace function pgq.batch_event_sql(x_batch_id bigint)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    b     record;
    v_sql text;
begin
    perform tidemill.require_identity();
    select s.sub_id, s.sub_queue, f.tick_snapshot as from_snapshot, t.tick_snapshot as to_snapshot,
           (select r.role from tidemill.consumer_role r where r.sub_id = s.sub_id) as role
    into b
    from pgq.subscription s
    join pgq.tick f on f.tick_queue = s.sub_queue and f.tick_id = s.sub_last_tick
    join pgq.tick t on t.tick_queue = s.sub_queue and t.tick_id = s.sub_next_tick
    where s.sub_batch = x_batch_id;
    if not found then
        raise exception 'batch not found';
    end if;
    if b.role is not null then
        perform tidemill.require_consumer_role(b.role, b.sub_id);
    end if;
    v_sql := tidemill.event_source(b.sub_queue, b.from_snapshot, b.to_snapshot, b.sub_id);
    if v_sql is null then
        raise exception 'could not construct sql for batch %', x_batch_id;
    end if;
    return format(
        E'select ev_id, ev_time, ev_txid, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4\n'
        'from (%s) cur_event\norder by 1', v_sql);
end
$$;
