-- upgrade_schema: kept for programs that call it; the installer upgrades, so there is nothing to change here: 0.
-- Callers: pgq_admin. Locks: none.
create or replace function pgq_node.upgrade_schema()
returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    return 0;
end
$$;
