-- version: the version of pgq_coop that these functions are compatible with. Programs compare it.
-- Callers: everybody. Locks: none.
create or replace function pgq_coop.version()
returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return '3.4';
end
$$;
