-- has_own_rows: are the rows of this database the very ones that its transactions wrote (files were copied: pg_upgrade,
-- recovery, failover, template), or did a restore write them again under other transaction ids?
-- Callers: the rebase. Locks: none.
create or replace function tidemill.has_own_rows()
returns boolean
language sql
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select 1 from tidemill.birthmark b where b.wrote = b.xmin::text::bigint and b.table_oid = b.tableoid)
    and not exists (
        select 1 from pgq.tick t where txid_snapshot_xmax(t.tick_snapshot) > txid_snapshot_xmax(txid_current_snapshot()));
$$;
