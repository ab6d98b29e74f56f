-- Function: tidemill.option_text(extra1, name)
--
--   A text of a job's options; NULL when ev_extra1 is no options object (a plain PgQ event) or has
--   none of this name.
--
-- Who: internal. Locks: none.
create or replace function tidemill.option_text(i_extra1 text, i_name text)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Most have none, and need no parser.
    if i_extra1 is null or left(ltrim(i_extra1), 1) <> '{' or position(to_json(i_name)::text in i_extra1) = 0 then
        return null;
    end if;
    return i_extra1::jsonb ->> i_name;
exception when data_exception then
    return null;        -- not JSON: somebody's own extra, passed through untouched
end;
$$;
