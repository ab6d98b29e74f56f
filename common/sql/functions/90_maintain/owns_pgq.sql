-- owns_pgq: is the log in this database ours, or the real PgQ's, which we only use?
-- Callers: the installer. Locks: none.
create or replace function tidemill.owns_pgq()
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (select 1 from tidemill.migration where version = 1 and checksum <> '');
end
$$;
