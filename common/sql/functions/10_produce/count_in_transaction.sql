-- count_in_transaction: refuse more than i_limit events of one transaction into one queue (queue_per_tx_limit).
-- Callers: insert_event_raw. Locks: none; the count lives in a setting that ends with the transaction.
create or replace function tidemill.count_in_transaction(i_queue_id integer, i_queue_name text, i_limit integer, i_txid bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_name  text := 'tidemill.events_' || i_queue_id;
    v_seen  text[] := string_to_array(current_setting(v_name, true), ':');
    v_count bigint := case when v_seen[1] = i_txid::text then v_seen[2]::bigint else 0 end + 1;
begin
    if v_count > i_limit then
        raise exception 'Queue ''%'' allows max % events from one TX', i_queue_name, i_limit;
    end if;
    perform set_config(v_name, i_txid || ':' || v_count, true);
end
$$;
