-- generated_columns: the names of a table's stored generated columns.
-- Callers: log_row. Locks: none.
create or replace function tidemill.generated_columns(i_table oid)
returns text[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select attname::text from pg_attribute
        where attrelid = i_table and attnum > 0 and attgenerated = 's' and not attisdropped);
end
$$;
