-- insert_event_raw: put one event of any kind into a queue, by a dynamic statement. Returns the event's id.
-- Callers: pgq_admin; insert_event (see make_inserts) for all but plain events of queues that it knows. Locks: the event
-- table, as any insert does.
--
-- The order matters: transaction id, then the queue's row in a later statement, then the event sequence. So an event
-- whose number a tick has already counted belongs to a transaction which that tick's snapshot knows as in progress, and
-- the ticker looks for it again; and a table name read before a rotation belongs to an older transaction than it.
create or replace function pgq.insert_event_raw(
    queue_name text, ev_id bigint, ev_time timestamptz, ev_owner integer, ev_retry integer,
    ev_type text, ev_data text, ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_txid bigint := txid_current();
    v_id   bigint;
    q      record;
begin
    if insert_event_raw.queue_name is null then
        raise exception 'Queue name must not be NULL';
    end if;
    select s.queue_id, s.queue_disable_insert, s.queue_per_tx_limit, s.queue_event_seq,
           s.queue_data_pfx || '_' || s.queue_cur_table as cur_table
    into q from pgq.queue s where s.queue_name = insert_event_raw.queue_name;
    if not found then
        raise exception 'No such queue';
    end if;
    if q.queue_disable_insert and current_setting('session_replication_role') <> 'replica' then
        raise exception 'Insert into queue disallowed';
    end if;
    if q.queue_per_tx_limit is not null then
        perform tidemill.count_in_transaction(q.queue_id, insert_event_raw.queue_name, q.queue_per_tx_limit, v_txid);
    end if;
    v_id := nextval(q.queue_event_seq::regclass);
    v_id := coalesce(insert_event_raw.ev_id, v_id);
    execute format(
        'insert into %s (ev_id, ev_time, ev_txid, ev_owner, ev_retry, ev_type, ev_data,'
        ' ev_extra1, ev_extra2, ev_extra3, ev_extra4)'
        ' values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)', q.cur_table)
    using v_id, coalesce(insert_event_raw.ev_time, now()), v_txid, insert_event_raw.ev_owner,
          insert_event_raw.ev_retry, insert_event_raw.ev_type, insert_event_raw.ev_data,
          insert_event_raw.ev_extra1, insert_event_raw.ev_extra2, insert_event_raw.ev_extra3,
          insert_event_raw.ev_extra4;
    if tidemill.ticker_sleeps() then
        perform tidemill.ring_doorbell(insert_event_raw.queue_name);
    end if;
    return v_id;
end
$$;
