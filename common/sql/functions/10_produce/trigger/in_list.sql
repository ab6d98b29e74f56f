-- in_list: is a name in a list as PgQ's options write it, with commas or white space between the names?
-- Callers: log_row. Locks: none.
create or replace function tidemill.in_list(i_name text, i_list text)
returns boolean
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return strpos(',' || translate(i_list, E' \t\n\r\f\x0b', ',,,,,,') || ',',
                  ',' || translate(i_name, E' \t\n\r\f\x0b', ',,,,,,') || ',') > 0;
end
$$;
