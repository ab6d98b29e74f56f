-- sql_where: the condition that finds a row by its key, also the part of a DELETE that PgQ logs.
-- Callers: log_row, sql_update. Locks: none.
create or replace function tidemill.sql_where(i_keys text[], i_columns text[], i_values text[])
returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_where text;
    v_null  boolean;
begin
    select string_agg(quote_ident(name) || '=' || quote_literal(value), ' and ' order by n), bool_or(value is null)
    into v_where, v_null
    from unnest(i_columns, i_values) with ordinality c (name, value, n)
    where name = any (i_keys);
    if v_null then
        raise exception 'logtriga: Unexpected NULL key value';
    end if;
    return coalesce(v_where, '');
end
$$;
