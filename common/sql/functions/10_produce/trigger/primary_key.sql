-- primary_key: the names of a table's primary key columns; null without one.
-- Callers: log_row, log_statement. Locks: none.
--
-- The names are the table's, not the index's, which keep the old name of a column that was renamed: PgQ uses those and
-- writes updates without a condition afterwards. In a small database the planner would read the whole of pg_index,
-- fifty microseconds for each event: hence enable_seqscan.
create or replace function tidemill.primary_key(i_table oid)
returns text[]
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    v_columns smallint[];
    v_column  smallint;
    v_name    text;
    v_names   text[];
begin
    select indkey::smallint[] into v_columns from pg_index where indrelid = i_table and indisprimary;
    if not found then
        return null;
    end if;
    foreach v_column in array v_columns loop
        select attname into v_name from pg_attribute where attrelid = i_table and attnum = v_column;
        v_names := v_names || v_name;
    end loop;
    return v_names;
end
$$;
