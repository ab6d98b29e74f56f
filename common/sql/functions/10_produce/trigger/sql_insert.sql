-- sql_insert: a new row as the part of an INSERT that follows the table's name.
-- Callers: log_row. Locks: none.
create or replace function tidemill.sql_insert(i_columns text[], i_values text[])
returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (select '(' || coalesce(string_agg(quote_ident(name), ',' order by n), '') || ') values ('
               || coalesce(string_agg(coalesce(quote_literal(value), 'null'), ',' order by n), '') || ')'
    from unnest(i_columns, i_values) with ordinality c (name, value, n));
end
$$;
