-- Function: tidemill.option_cancel_key(extra1)
--
--   The key by which a job may be cancelled, from its options; NULL when ev_extra1 is no options
--   object (a plain PgQ event) or has none.
--
-- Who: internal. Locks: none.
create or replace function tidemill.option_cancel_key(i_extra1 text)
returns int8
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Most have none, and need no parser.
    if i_extra1 is null or left(ltrim(i_extra1), 1) <> '{' or position('"cancel_key"' in i_extra1) = 0 then
        return null;
    end if;
    return (i_extra1::jsonb ->> 'cancel_key')::int8;
exception when data_exception then
    return null;        -- not JSON, or no number: somebody's own extra, passed through untouched
end;
$$;
