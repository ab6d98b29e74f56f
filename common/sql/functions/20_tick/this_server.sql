-- this_server: which cluster and database this is, and the timeline of its WAL. The name of a WAL file tells the
-- timeline at once; the control file only after the first checkpoint. Not on a standby.
-- Callers: require_identity, record_identity, the rebase. Locks: none. Reads the control file: some 30 µs.
create or replace function tidemill.this_server(out system_identifier bigint, out database_oid oid, out timeline integer)
language sql
set search_path = pg_catalog, pg_temp
as $$
    select c.system_identifier, d.oid,
           ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer
    from pg_control_system() c, pg_database d where d.datname = current_database();
$$;
