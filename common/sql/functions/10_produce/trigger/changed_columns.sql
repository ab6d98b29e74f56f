-- changed_columns: which of some columns (i_of, without i_except) an update has changed, in the table's order.
-- Callers: log_row. Locks: none.
--
-- As in PgQ, values are compared with the default equality operator of their type (1.0 is 1.00), arrays and types
-- without such an operator by their text. The operator is asked only where the texts do not tell: that takes a dynamic
-- statement. record_eq is the one way to it that does not look an operator up by its name.
create or replace function tidemill.changed_columns(
    i_table oid, i_columns text[], i_before text[], i_after text[], i_of text[], i_except text[],
    i_old anyelement, i_new anyelement)
returns text[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    -- Then floating point values that differ may have one text.
    v_rounded boolean := current_setting('extra_float_digits')::integer < 1;
    v_changed text[] := '{}';
    v_column  text;
    v_differs boolean;
begin
    for n in 1 .. cardinality(i_columns) loop
        v_column := i_columns[n];
        v_differs := i_before[n] is distinct from i_after[n];
        continue when not (v_differs or v_rounded) or v_column <> all (i_of) or v_column = any (i_except);
        if i_before[n] is not null and i_after[n] is not null
           and not tidemill.is_known_by_text(i_table, v_column) then
            begin
                execute format('select not record_eq(row(($1).%1$I), row(($2).%1$I))', v_column)
                into v_differs using i_old, i_new;
            exception when undefined_function then
                -- There is no such operator.
            end;
        end if;
        if v_differs then
            v_changed := v_changed || v_column;
        end if;
    end loop;
    return v_changed;
end
$$;
