-- batch_retry: retry all events of an open batch that do not wait already; how many.
-- Callers: pgq_reader. Locks: the retry rows.
create or replace function pgq.batch_retry(i_batch_id bigint, i_retry_seconds integer)
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
    select s.sub_id, s.sub_queue, (select r.role from tidemill.consumer_role r where r.sub_id = s.sub_id) as role
    into b from pgq.subscription s where s.ctid = tidemill.batch_row(i_batch_id);
    if not found then
        raise exception 'batch_retry: batch % not found', i_batch_id;
    end if;
    if b.role is not null then
        perform tidemill.require_consumer_role(b.role, b.sub_id);
    end if;
    execute format(
        'insert into pgq.retry_queue (ev_retry_after, ev_queue, ev_id, ev_time, ev_txid, ev_owner, ev_retry,'
        ' ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)'
        ' select $1, $2, ev_id, ev_time, null, $3, coalesce(ev_retry, 0) + 1,'
        ' ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4'
        ' from (%s) e on conflict (ev_owner, ev_id) do nothing', pgq.batch_event_sql(i_batch_id))
    using now() + i_retry_seconds * interval '1 second', b.sub_queue, b.sub_id;
    get diagnostics v_count = row_count;
    return v_count;
end
$$;
