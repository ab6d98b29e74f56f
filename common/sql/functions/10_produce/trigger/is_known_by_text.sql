-- is_known_by_text: are two values of a column equal if and only if their texts are? True also of an array: PgQ compares
-- those by their texts.
-- Callers: changed_columns. Locks: none.
create or replace function tidemill.is_known_by_text(i_table oid, i_column text)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_type      oid;
    v_collation oid;
begin
    select atttypid, attcollation into v_type, v_collation
    from pg_attribute where attrelid = i_table and attname = i_column and attnum > 0;
    -- bool, bytea, int8, int2, int4, text, date, timestamp, timestamptz, uuid; 100 is the database's collation.
    if v_type in (16, 17, 20, 21, 23, 25, 1043, 1082, 1114, 1184, 2950) then
        return v_collation in (0, 100) or (select collisdeterministic from pg_collation where oid = v_collation);
    end if;
    return coalesce((select typsubscript = 'array_subscript_handler'::regproc
                     from pg_type where oid = tidemill.base_type(v_type)), false);
end
$$;
