-- require_sane_tick: refuse a last tick from the future of this server's transaction ids (TM003): the server went back.
-- Callers: ticker, tick_pass. Locks: none.
create or replace function tidemill.require_sane_tick(i_queue_name text, i_snapshot txid_snapshot, i_new_events bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_next bigint := txid_snapshot_xmax(txid_current_snapshot());
begin
    if txid_snapshot_xmin(i_snapshot) > v_next then
        raise exception 'Invalid PgQ state: old xmin=%, old xmax=%, cur txid=%',
            txid_snapshot_xmin(i_snapshot), txid_snapshot_xmax(i_snapshot), v_next
            using errcode = 'TM003';
    end if;
    if txid_snapshot_xmax(i_snapshot) > v_next then
        raise warning 'Dubious PgQ state: old xmax=%, cur txid=%', txid_snapshot_xmax(i_snapshot), v_next;
    end if;
    if i_new_events < 0 then
        raise warning 'Negative new_events?  old=% cur=% (queue %)', -i_new_events, 0, i_queue_name;
    end if;
end
$$;
