-- version: which PgQ this behaves as. pgqd serves a database only if the text begins with 3.
-- Callers: everybody. Locks: none.
create or replace function pgq.version()
returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return '3.5.2';
end
$$;
