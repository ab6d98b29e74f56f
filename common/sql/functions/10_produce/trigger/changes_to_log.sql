-- changes_to_log: the changed columns that an update's event is about; null if there is to be no event, because only
-- hidden columns changed. An update that changes nothing is an event without columns.
-- Callers: log_row. Locks: none.
--
-- i_all: the caller needs all columns; otherwise the first one decides, as in PgQ.
create or replace function tidemill.changes_to_log(i_keys text[], i_hidden text[], i_changed text[], i_all boolean)
returns text[]
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_column text;
    v_set    text[] := '{}';
begin
    foreach v_column in array i_changed loop
        if v_column = any (i_keys) then
            raise exception 'primary key update not allowed';
        end if;
        continue when v_column = any (i_hidden);
        v_set := v_set || v_column;
        exit when not i_all;
    end loop;
    if v_set = '{}' and i_changed <> '{}' then
        return null;
    end if;
    return v_set;
end
$$;
