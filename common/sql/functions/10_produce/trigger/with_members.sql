-- with_members: a JSON object with some of its members taken from another one.
-- Callers: log_row. Locks: none.
create or replace function tidemill.with_members(i_json json, i_other json, i_names text[])
returns json
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (select json_object_agg(name, case when name = any (i_names) then i_other -> name else value end order by n)
    from json_each(i_json) with ordinality m (name, value, n));
end
$$;
