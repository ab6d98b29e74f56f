-- json_row: a row as a JSON object, as PgQ writes it: integers and booleans native, dates and times of day with a date
-- in ISO 8601, all else as a string of the value's text. Domains count as "all else".
-- Callers: log_row. Locks: none.
create or replace function tidemill.json_row(i_table oid, i_columns text[], i_values text[], i_json json)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (select '{' || coalesce(string_agg(
        to_json(c.name)::text || ':' || case
            when c.value is null then 'null'
            when a.atttypid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) then c.value
            when a.atttypid = 'bool'::regtype then case c.value when 't' then 'true' else 'false' end
            when a.atttypid in ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype)
                then (i_json -> c.name)::text
            else to_json(c.value)::text
        end, ',' order by c.n), '') || '}'
    from unnest(i_columns, i_values) with ordinality c (name, value, n)
    left join pg_attribute a on a.attrelid = i_table and a.attname = c.name and a.attnum > 0);
end
$$;
