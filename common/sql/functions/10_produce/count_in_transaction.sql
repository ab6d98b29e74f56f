-- count_in_transaction: refuse more than i_limit events of one transaction into one queue (queue_per_tx_limit). No limit
-- is null or negative.
-- Callers: insert_event_raw. Locks: none that anybody waits for.
--
-- Like PgQ it counts what was tried: also events of savepoints that were rolled back. The only thing of a session that
-- a rollback leaves alone is its own last value of a sequence: that holds the transaction (its low 32 bits) and its
-- count (31 bits). The sequence is there for this alone, see _count_sequence.
create or replace function tidemill.count_in_transaction(i_queue_id integer, i_queue_name text, i_limit integer, i_txid bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sequence regclass := format('pgq.event_%s_count_seq', i_queue_id);
    v_mark     bigint := (i_txid & 4294967295) << 31;
    v_last     bigint;
begin
    if i_limit < 0 then
        return;
    end if;
    begin
        v_last := currval(v_sequence);
    exception when object_not_in_prerequisite_state then
        v_last := v_mark;  -- the first event of this session
    end;
    v_last := setval(v_sequence, case when v_last between v_mark and v_mark + 2147483646 then v_last else v_mark end + 1);
    if v_last - v_mark > i_limit then
        raise exception 'Queue ''%'' allows max % events from one TX', i_queue_name, i_limit;
    end if;
end
$$;
