-- version: the version of pgq_node that these functions are compatible with. Programs compare it.
-- Callers: everybody. Locks: none.
create or replace function pgq_node.version()
returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return '3.5';
end
$$;
