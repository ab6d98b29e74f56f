-- has_straggler: did a transaction that was in progress in this (the last) tick's snapshot commit events since?
-- Such events are counted in the tick's sequence already, so the sequence alone would call the queue idle.
-- Callers: ticker, tick_pass. Locks: none. Reads by the transaction-id index only.
--
-- Once all those transactions have ended and left nothing, that stays so: it is noted in a setting of the session, and
-- an idle queue in a busy cluster (a snapshot knows the transactions of all databases) costs nothing from then on.
create or replace function tidemill.has_straggler(i_queue_id integer, i_tick_id bigint, i_snapshot txid_snapshot)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
declare
    v_note  text := 'tidemill.settled_' || i_queue_id;
    v_xids  bigint[];
    v_ended bigint[];
    v_table text;
    v_found boolean;
begin
    if txid_snapshot_xmin(i_snapshot) = txid_snapshot_xmax(i_snapshot)
        or current_setting(v_note, true) = i_tick_id::text
    then
        return false;
    end if;
    v_xids := array(select txid_snapshot_xip(i_snapshot));
    -- Ended before this statement; the probe, a later statement, sees what they committed.
    v_ended := array(
        select x from unnest(v_xids) x where txid_visible_in_snapshot(x, txid_current_snapshot()));
    if v_ended <> '{}' then
        for v_table in select t from tidemill.event_tables(i_queue_id) t loop
            execute format('select exists (select 1 from %s where ev_txid = any ($1))', v_table)
            into v_found using v_ended;
            if v_found then
                return true;
            end if;
        end loop;
    end if;
    if cardinality(v_ended) = cardinality(v_xids) then
        perform set_config(v_note, i_tick_id::text, false);
    end if;
    return false;
end
$$;
