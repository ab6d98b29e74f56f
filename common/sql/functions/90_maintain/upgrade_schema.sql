-- upgrade_schema: PgQ's name for an upgrade; ours is done by `tidemill schema install`, so there is nothing to do: 0.
-- Callers: pgq_admin. Locks: none.
create or replace function pgq.upgrade_schema()
returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    return 0;
end
$$;
