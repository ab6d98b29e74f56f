-- is_admin: may the caller do with any consumer what he likes? The members of pgq_admin, who may write PgQ's tables, and
-- the owner of the schema.
-- Callers: require_consumer_role, bind_consumer. Locks: none.
create or replace function tidemill.is_admin()
returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select 1 from pg_roles r
        where (r.rolname = 'pgq_admin' or r.oid = (select nspowner from pg_namespace where nspname = 'tidemill'))
          and pg_has_role(tidemill.caller(), r.oid, 'member'))
$$;
