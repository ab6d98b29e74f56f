-- url_row: a row as `column=value&column&…`; a column without `=` is NULL.
-- Callers: log_row. Locks: none.
--
-- All values are encoded at once, with \x01 between them, which comes out as %01; a row with a \x01 in it value by value.
create or replace function tidemill.url_row(i_columns text[], i_values text[])
returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_all     text := array_to_string(i_columns || i_values, E'\x01', '');
    v_count   integer := cardinality(i_columns);
    v_encoded text[];
begin
    if length(v_all) - length(replace(v_all, E'\x01', '')) = 2 * v_count - 1 then
        v_encoded := string_to_array(tidemill.urlencode(v_all), '%01');
    else
        v_encoded := array(
            select coalesce(tidemill.urlencode(piece), '')
            from unnest(i_columns || i_values) with ordinality p (piece, n) order by n);
    end if;
    return coalesce((
        select string_agg(
            case when v_value is null then v_encoded[n] else v_encoded[n] || '=' || v_encoded[v_count + n] end,
            '&' order by n)
        from unnest(i_values) with ordinality v (v_value, n)), '');
end
$$;
