-- sql_update: an update as the part of an UPDATE that follows SET. Without a change the first key column is set
-- to itself.
-- Callers: log_row. Locks: none.
create or replace function tidemill.sql_update(
    i_keys text[], i_set text[], i_columns text[], i_before text[], i_after text[])
returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_where text := tidemill.sql_where(i_keys, i_columns, i_before);
    v_set   text;
begin
    select string_agg(quote_ident(name) || '=' || coalesce(quote_literal(value), 'NULL'), ',' order by n)
    into v_set
    from unnest(i_columns, i_after) with ordinality c (name, value, n)
    where name = any (i_set);
    if v_set is null then
        select quote_ident(name) || '=' || quote_literal(value) into v_set
        from unnest(i_columns, i_before) with ordinality c (name, value, n)
        where name = any (i_keys) order by n limit 1;
    end if;
    if v_set is null then
        raise exception 'logtriga: Unexpected NULL key value';
    end if;
    return v_set || ' where ' || v_where;
end
$$;
