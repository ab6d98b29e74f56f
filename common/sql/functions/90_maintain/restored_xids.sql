-- restored_xids: which transactions (low 32 bits) wrote rows of this table that were not new events but restored ones?
-- Callers: rebase_queue, under the exclusive lock of the table. Locks: none. Reads the whole table.
--
-- A producer's row carries its own transaction: ev_txid is that of the row's xmin, or of the transaction around it, and
-- both are younger than the table. A restore puts many transactions' rows under its own: one COPY, or some INSERTs. A
-- transaction of the table is a restore's if any of its rows carries an id that is not between the table's creation and
-- its own, or if they carry different ones.
create or replace function tidemill.restored_xids(i_table text)
returns bigint[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now     bigint := txid_current();
    v_created bigint;
    v_xids    bigint[];
begin
    -- The row of a system column is written by `create table`, and never again.
    select tidemill.full_xid(a.xmin::text::bigint, v_now) into v_created
    from pg_attribute a where a.attrelid = i_table::regclass and a.attname = 'tableoid';
    execute format(
        'select array_agg(x) from (select xmin::text::bigint as x, min(ev_txid) as low, max(ev_txid) as high'
        ' from only %s group by 1) t'
        ' where low <> high or low <= $1 or high > tidemill.full_xid(x, $2)', i_table)
    into v_xids using v_created, v_now;
    return coalesce(v_xids, '{}');
end
$$;
