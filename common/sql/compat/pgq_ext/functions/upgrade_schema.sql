-- upgrade_schema: nothing to do; the installer upgrades. Always 0.
-- Callers: pgq_admin. Locks: none.
create or replace function pgq_ext.upgrade_schema()
returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    return 0;
end
$$;
