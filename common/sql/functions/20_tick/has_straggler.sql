-- has_straggler: did a transaction that this (the last) tick did not see commit events since, which its sequence counts?
-- The sequence alone would call the queue idle.
-- Callers: ticker, tick_pass. Locks: none. Reads by the transaction-id index only.
--
-- Such a transaction had its id before the tick's own transaction had one. In the tick's snapshot it is one of those in
-- progress, or, if no later one had ended by then, not below the snapshot's end at all: a lone slow producer.
-- The first look asks for events of both kinds and notes, in a setting of the session, what is in progress now: the
-- tick's transaction has ended, so no straggler is missing in there. Later looks ask only for those that have ended
-- since. Once none is left that stays so, and an idle queue in a busy cluster (a snapshot knows the transactions of all
-- databases) costs nothing from then on.
create or replace function tidemill.has_straggler(i_queue_id integer, i_tick_id bigint, i_snapshot txid_snapshot)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    v_settled text := 'tidemill.settled_' || i_queue_id;
    v_note    text := 'tidemill.stragglers_' || i_queue_id;
    v_noted   text := current_setting(v_note, true);
    v_now     txid_snapshot;
    v_after   bigint;
    v_open    bigint[];
    v_ended   bigint[];
    v_table   text;
    v_found   boolean;
begin
    if current_setting(v_settled, true) = i_tick_id::text then
        return false;
    end if;
    -- Ended before this statement; the probe, a later statement, sees what they committed.
    v_now := txid_current_snapshot();
    if v_noted like i_tick_id || ':%' then
        v_open := split_part(v_noted, ':', 2)::bigint[];
    else
        v_open := array(select txid_snapshot_xip(i_snapshot));
        v_after := txid_snapshot_xmax(i_snapshot);
    end if;
    v_ended := array(select x from unnest(v_open) x where txid_visible_in_snapshot(x, v_now));
    if v_after is null and v_ended = '{}' then
        return false;
    end if;
    for v_table in select t from tidemill.event_tables(i_queue_id) t loop
        execute format('select exists (select 1 from %1$s where ev_txid = any ($1))
                            or exists (select 1 from %1$s where ev_txid >= $2)', v_table)
        into v_found using v_ended, v_after;
        if v_found then
            return true;
        end if;
    end loop;
    v_open := array(
        select x from unnest(case when v_after is null then v_open else array(select txid_snapshot_xip(v_now)) end) x
        where not txid_visible_in_snapshot(x, v_now));
    if v_open = '{}' then
        perform set_config(v_settled, i_tick_id::text, false);
    end if;
    perform set_config(v_note, i_tick_id || ':' || v_open::text, false);
    return false;
end
$$;
