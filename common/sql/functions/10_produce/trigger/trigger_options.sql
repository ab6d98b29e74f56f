-- trigger_options: the arguments of a trigger after the queue's name, checked as PgQ does, in its order.
-- Callers: log_row, log_statement. Locks: none.
--
-- o_expressions: SQL as written, or null, for ev_type, ev_data, ev_extra1 to ev_extra4, when. Of an expression given
-- twice the first counts, of ignore and pkey the last.
create or replace function tidemill.trigger_options(
    i_arguments text[], i_op text,
    out o_skip boolean, out o_backup boolean, out o_deny boolean, out o_ignore text, out o_pkey text,
    out o_expressions text[])
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_argument text;
    v_parts    text[];
    v_field    integer;
begin
    if coalesce(cardinality(i_arguments), 0) = 0 then
        raise exception 'pgq trigger must have destination queue as argument';
    end if;
    o_skip := false;
    o_backup := false;
    o_deny := false;
    foreach v_argument in array i_arguments[1:] loop
        case
            when v_argument = 'SKIP' then o_skip := true;
            when v_argument = 'backup' then o_backup := true;
            when v_argument = 'deny' then o_deny := true;
            when starts_with(v_argument, 'ignore=') then o_ignore := substr(v_argument, 8);
            when starts_with(v_argument, 'pkey=') then o_pkey := substr(v_argument, 6);
            else
                v_parts := regexp_match(v_argument, '^(ev_type|ev_data|ev_extra[1-4]|when)=(.*)$');
                if v_parts is null then
                    raise exception 'bad param to pgq trigger';
                end if;
                if i_op = 'TRUNCATE' then
                    raise exception 'Custom expressions do not make sense for truncater trigger';
                end if;
                v_field := array_position(
                    array['ev_type', 'ev_data', 'ev_extra1', 'ev_extra2', 'ev_extra3', 'ev_extra4', 'when'], v_parts[1]);
                o_expressions := coalesce(o_expressions, array_fill(null::text, array[7]));
                o_expressions[v_field] := coalesce(o_expressions[v_field], v_parts[2]);
        end case;
    end loop;
    if i_op = 'TRUNCATE' then
        if o_ignore is not null then
            raise exception 'Column ignore does not make sense for truncate trigger';
        elsif o_pkey is not null then
            raise exception 'Custom pkey_list does not make sense for truncate trigger';
        elsif o_backup then
            raise exception 'Backup does not make sense for truncate trigger';
        end if;
    end if;
end
$$;
