-- Function: tidemill.unique_option(extra1)
--
--   The unique key of a job's options; NULL when ev_extra1 is no options object (a plain PgQ event) or has none.
--
-- Who: internal. Locks: none.
create or replace function tidemill.unique_option(i_extra1 text)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return tidemill.option_text(i_extra1, 'unique')::jsonb ->> 'key';
exception when data_exception then
    return null;        -- somebody's own extra, passed through untouched
end;
$$;
