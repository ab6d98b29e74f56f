-- Function: tidemill.option_max_attempts(extra1)
--
--   The job's own limit of attempts from its options, NULL when ev_extra1 is no options
--   object (a plain PgQ event) or has none.
--
-- Who: internal. Locks: none.
create or replace function tidemill.option_max_attempts(i_extra1 text)
returns int4
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if i_extra1 is null or left(ltrim(i_extra1), 1) <> '{' then
        return null;
    end if;
    return (i_extra1::jsonb ->> 'max_attempts')::int4;
exception when data_exception then
    return null;        -- not JSON: somebody's own extra, passed through untouched
end;
$$;
