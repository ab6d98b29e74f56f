-- override: the fields of an event, with the values of the table's magic columns (`_pgq_ev_type`, …) in their place.
-- Callers: log_row. Locks: none.
create or replace function tidemill.override(i_event text[], i_columns text[], i_values text[], i_hidden text[])
returns text[]
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_event  text[] := i_event;
    v_column text;
    v_field  integer;
begin
    foreach v_column in array i_hidden loop
        continue when not starts_with(v_column, '_pgq_ev_');
        v_field := array_position(array['type', 'data', 'extra1', 'extra2', 'extra3', 'extra4'], substr(v_column, 9));
        if v_field is null then
            raise exception 'Unknown magic column: %', v_column;
        end if;
        v_event[v_field] := i_values[array_position(i_columns, v_column)];
    end loop;
    return v_event;
end
$$;
