-- event_type: ev_type of a trigger's event: `I:id` (url), `I` (sql), `{"op":"INSERT",…}` (json).
-- i_pkey: the key's columns, null without a key.
-- Callers: log_row, log_statement. Locks: none.
create or replace function tidemill.event_type(i_format text, i_op text, i_schema text, i_name text, i_pkey text[])
returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_letter text := case i_op when 'TRUNCATE' then 'R' else left(i_op, 1) end;
    v_pkey   text := '';
    v_column text;
begin
    if i_format = 'sql' or i_format = 'url' and v_letter = 'R' then
        return v_letter;
    elsif i_format = 'url' then
        return v_letter || ':' || coalesce(array_to_string(i_pkey, ','), '');
    end if;
    if i_pkey is not null then
        foreach v_column in array i_pkey loop
            v_pkey := v_pkey || ',' || to_json(v_column);
        end loop;
    end if;
    return '{"op":"' || i_op || '","table":[' || to_json(i_schema) || ',' || to_json(i_name)
        || '],"pkey":[' || substr(v_pkey, 2) || ']}';
end
$$;
