-- batch_event_sql: the query (text) that reads an open batch, ordered by ev_id.
-- Callers: pgq_reader. Locks: none.
create or replace function pgq.batch_event_sql(x_batch_id bigint)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    b     record;
    v_sql text;
begin
    perform tidemill.require_identity();
    -- Subqueries, not joins: planned while there were few ticks, a join reads them all.
    select s.sub_id, s.sub_queue,
           (select f.tick_snapshot from pgq.tick f
            where f.tick_queue = s.sub_queue and f.tick_id = s.sub_last_tick) as from_snapshot,
           (select t.tick_snapshot from pgq.tick t
            where t.tick_queue = s.sub_queue and t.tick_id = s.sub_next_tick) as to_snapshot,
           (select r.role from tidemill.consumer_role r where r.sub_id = s.sub_id) as role
    into b
    from pgq.subscription s
    where s.ctid = tidemill.batch_row(x_batch_id);
    if b.from_snapshot is null or b.to_snapshot is null then
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
