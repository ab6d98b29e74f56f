-- Function: tidemill.find_event(queue_id, event_id, from, until)
--
--   The newest event with this id among those whose transactions had not ended in the
--   snapshot i_from and had begun before i_until was taken (null: until now). Only for
--   everybody or for the dispatcher: not another consumer's retry.
--
-- Returns: one row, all null if there is none
-- Who: internal. Locks: none. Reads by the index on ev_txid only.
create or replace function tidemill.find_event(i_queue_id int4, i_event_id int8, i_from txid_snapshot, i_until txid_snapshot,
    out ev_id int8, out ev_txid int8, out ev_time timestamptz, out ev_owner int4,
    out ev_type text, out ev_data text, out ev_extra1 text)
returns record
language plpgsql
stable
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_running constant int8[] := array(select txid_snapshot_xip(i_from));
    v_sql     text;
begin
    select string_agg(format(
               'select ev_id, ev_txid, ev_time, ev_owner, ev_type, ev_data, ev_extra1 from %s '
               'where ev_id = $1 and (ev_owner is null or ev_owner = $5) and %s',
               t, w), ' union all ')
      into v_sql
      from tidemill.event_tables(i_queue_id) t,
           unnest(array['ev_txid >= $2 and ev_txid < $3', 'ev_txid = any ($4)']) w;
    execute v_sql || ' order by ev_txid desc limit 1'
       into ev_id, ev_txid, ev_time, ev_owner, ev_type, ev_data, ev_extra1
      using i_event_id, txid_snapshot_xmax(i_from), coalesce(txid_snapshot_xmax(i_until), 9223372036854775807), v_running,
            (select j.sub_id from tidemill.job_queue j where j.queue_id = i_queue_id);
end;
$$;
