-- event_retry: deliver one event of an open batch again later, to this consumer only. 1, or 0 when it waits already.
-- Callers: pgq_reader. Locks: the retry row. The event is looked up by the transaction-id index inside the batch, until
-- it is found; nothing is sorted or read twice.
create or replace function pgq.event_retry(x_batch_id bigint, x_event_id bigint, x_retry_time timestamptz)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    b       record;
    v_count integer;
begin
    select s.sub_id, s.sub_queue, f.tick_snapshot as from_snapshot, t.tick_snapshot as to_snapshot,
           (select r.role from tidemill.consumer_role r where r.sub_id = s.sub_id) as role
    into b
    from pgq.subscription s
    join pgq.tick f on f.tick_queue = s.sub_queue and f.tick_id = s.sub_last_tick
    join pgq.tick t on t.tick_queue = s.sub_queue and t.tick_id = s.sub_next_tick
    where s.ctid = tidemill.batch_row(x_batch_id);
    if not found then
        raise exception 'event not found';
    end if;
    if b.role is not null then
        perform tidemill.require_consumer_role(b.role, b.sub_id);
    end if;
    if exists (select 1 from pgq.retry_queue where ev_owner = b.sub_id and ev_id = x_event_id) then
        return 0;
    end if;
    execute format(
        'insert into pgq.retry_queue (ev_retry_after, ev_queue, ev_id, ev_time, ev_txid, ev_owner, ev_retry,'
        ' ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)'
        ' select $1, $2, ev_id, ev_time, null, $3, coalesce(ev_retry, 0) + 1,'
        ' ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4'
        ' from (%s) e where ev_id = $4 limit 1 on conflict (ev_owner, ev_id) do nothing',
        tidemill.event_source(b.sub_queue, b.from_snapshot, b.to_snapshot, b.sub_id))
    using x_retry_time, b.sub_queue, b.sub_id, x_event_id;
    get diagnostics v_count = row_count;
    if v_count = 0 and not exists (
        select 1 from pgq.retry_queue where ev_owner = b.sub_id and ev_id = x_event_id)
    then
        raise exception 'event not found';
    end if;
    return v_count;
end
$$;

create or replace function pgq.event_retry(x_batch_id bigint, x_event_id bigint, x_retry_seconds integer)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return pgq.event_retry(x_batch_id, x_event_id, now() + x_retry_seconds * interval '1 second');
end
$$;
