-- retry_due: move due retry events of one queue into its log, at most i_limit; how many. In one statement, and after
-- the transaction has its id and the table's name was read, in this order (see insert_event_raw).
-- Callers: maint_retry_events. Locks: the due rows; those that another session moves are skipped.
create or replace function tidemill.retry_due(i_queue_id integer, i_limit integer)
returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_txid  bigint := txid_current();
    q       record;
    v_count integer;
begin
    select queue_event_seq, queue_disable_insert, pgq.quote_fqname(queue_data_pfx || '_' || queue_cur_table) as cur_table
    into q from pgq.queue where queue_id = i_queue_id;
    if q.queue_disable_insert and current_setting('session_replication_role') <> 'replica' then
        raise exception 'Insert into queue disallowed';
    end if;
    execute format(
        'with due as materialized ('
        ' select ev_owner, ev_id from pgq.retry_queue where ev_queue = $1 and ev_retry_after <= now()'
        ' order by ev_retry_after limit $2 for update skip locked'
        '), gone as ('
        ' delete from pgq.retry_queue r using due d where r.ev_owner = d.ev_owner and r.ev_id = d.ev_id returning r.*)'
        ' insert into %s (ev_id, ev_time, ev_txid, ev_owner, ev_retry, ev_type, ev_data,'
        ' ev_extra1, ev_extra2, ev_extra3, ev_extra4)'
        ' select ev_id, coalesce(ev_time, now()), $3, ev_owner, ev_retry, ev_type, ev_data,'
        ' ev_extra1, ev_extra2, ev_extra3, ev_extra4 from gone', q.cur_table)
    using i_queue_id, i_limit, v_txid;
    get diagnostics v_count = row_count;
    -- The events keep their ids; the sequence moves as well, so that the ticker sees that something came.
    perform count(nextval(q.queue_event_seq::regclass)) from generate_series(1, v_count);
    return v_count;
end
$$;
