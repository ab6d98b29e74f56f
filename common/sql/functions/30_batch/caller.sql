-- caller: the role that calls, as seen from within a security definer function, where current_user is the function's
-- owner: what SET ROLE says, otherwise who logged in. So a pool that sets a tenant's role has that tenant's consumers.
-- A function of somebody's own with "security definer" does not change it: what matters is for whom the session works.
-- Callers: require_consumer_role, bind_consumer. Locks: none.
create or replace function tidemill.caller()
returns name
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(nullif(current_setting('role'), 'none'), session_user)::name
$$;
