-- log_row: what the triggers do FOR EACH ROW: one event for the row's change, unless an option says otherwise. True if
-- the change itself is to be dropped (SKIP).
-- Callers: jsontriga, logutriga, sqltriga, with the rights of who changes the row. Locks: as insert_event.
--
-- i_path is the session's search_path, i_before and i_after are the rows as text under it. Nothing is kept from one call
-- to the next: a session's settings can be set by anybody in it, and the trigger may fire with another role's rights.
create or replace function tidemill.log_row(
    i_format text, i_arguments text[], i_op text, i_when text, i_table oid, i_schema text, i_name text, i_path text,
    i_before text, i_after text, i_old anyelement, i_new anyelement)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_options record;
    v_pkey    text[];
    v_json    json;
    v_columns text[];
    v_values  text[];
    v_old     text[];
    v_stale   text[] := '{}';
    v_keys    text[];
    v_hidden  text[] := '{}';
    v_set     text[];
    v_names   text[];
    v_shown   text[];
    v_backup  text[];
    v_event   text[] := array[null, null, i_schema || '.' || i_name, null, null, null];
    v_value   text;
    v_id      bigint;
begin
    if current_setting('session_replication_role') = 'local' then
        return false;
    end if;
    v_options := tidemill.trigger_options(i_arguments, i_op);
    -- An empty option pkey= is one column without a name.
    v_pkey := case when v_options.o_pkey is null then tidemill.primary_key(i_table)
                   when v_options.o_pkey = '' then array['']
                   else string_to_array(v_options.o_pkey, ',') end;
    if coalesce(v_pkey, array['']) = array[''] and i_op <> 'INSERT' then
        raise exception 'Update/Delete on table without pkey';
    elsif v_options.o_skip and i_when = 'AFTER' then
        raise exception 'SKIP does not work in AFTER trigger.';
    elsif v_options.o_deny then
        raise exception 'Table ''%.%'' to queue ''%'': change not allowed (%)', i_schema, i_name, i_arguments[0], i_op;
    end if;

    if i_op = 'DELETE' then
        i_new := i_old;
    end if;
    -- The names are taken from the row, not from the catalog, of which an old snapshot may show another state.
    v_json := to_json(i_new);
    v_columns := array(select json_object_keys(v_json));
    if v_columns <> '{}' then
        v_values := tidemill.row_values(case i_op when 'DELETE' then i_before else i_after end);
    end if;
    if i_op = 'UPDATE' then
        v_old := tidemill.row_values(i_before);
        if i_when = 'BEFORE' then
            -- A generated column is not computed yet. PgQ shows what it was before.
            v_stale := tidemill.generated_columns(i_table);
            if v_stale <> '{}' then
                v_json := tidemill.with_members(v_json, to_json(i_old), v_stale);
                v_values := array(
                    select case when name = any (v_stale) then before else value end
                    from unnest(v_columns, v_values, v_old) with ordinality c (name, value, before, n) order by n);
            end if;
        end if;
    end if;

    v_keys := case when v_options.o_pkey is null then v_pkey
                   else array(select name from unnest(v_columns) name
                              where tidemill.in_list(name, v_options.o_pkey)) end;
    if v_options.o_ignore is not null or strpos(array_to_string(v_columns, ','), '_pgq_ev_') > 0 then
        v_hidden := array(
            select name from unnest(v_columns) name
            where starts_with(name, '_pgq_ev_')
                  or v_options.o_ignore is not null and tidemill.in_list(name, v_options.o_ignore));
        v_keys := array(select name from unnest(v_keys) name where not starts_with(name, '_pgq_ev_'));
    end if;
    if i_op = 'UPDATE' then
        v_set := tidemill.changes_to_log(
            v_keys, v_hidden,
            tidemill.changed_columns(
                i_table, v_columns, v_old, v_values,
                case when i_format = 'sql' or v_options.o_ignore is not null then v_columns else v_keys end,
                v_stale, i_old, i_new),
            i_format = 'sql');
        if v_set is null then
            return v_options.o_skip;
        end if;
    end if;

    v_names := v_columns;
    v_shown := v_values;
    v_backup := v_old;
    if v_hidden <> '{}' then
        select coalesce(array_agg(name order by n), '{}'), coalesce(array_agg(value order by n), '{}'),
               coalesce(array_agg(before order by n), '{}')
        into v_names, v_shown, v_backup
        from unnest(v_columns, v_values, v_old) with ordinality c (name, value, before, n)
        where name <> all (v_hidden);
    end if;
    v_event[1] := tidemill.event_type(i_format, i_op, i_schema, i_name, v_pkey);
    v_event[2] := case i_format
        when 'json' then tidemill.json_row(i_table, v_names, v_shown, v_json)
        when 'url' then tidemill.url_row(v_names, v_shown)
        else case i_op
            when 'INSERT' then tidemill.sql_insert(v_names, v_shown)
            when 'UPDATE' then tidemill.sql_update(v_keys, v_set, v_columns, v_old, v_values)
            else tidemill.sql_where(v_keys, v_columns, v_values)
        end
    end;
    if v_options.o_backup and i_op = 'UPDATE' then
        v_event[4] := case i_format
            when 'json' then tidemill.json_row(i_table, v_names, v_backup, to_json(i_old))
            else tidemill.url_row(v_names, v_backup)
        end;
    end if;

    if v_hidden <> '{}' then
        v_event := tidemill.override(v_event, v_columns, v_values, v_hidden);
    end if;
    if v_options.o_expressions is not null then
        for v_field in 1 .. 7 loop
            continue when v_options.o_expressions[v_field] is null;
            v_value := tidemill.evaluate(
                tidemill.bind_columns(v_options.o_expressions[v_field], v_columns, v_stale),
                v_field = 7, i_path, i_new, i_old);
            v_event[v_field] := v_value;
        end loop;
        if v_event[7] = 'f' then
            return v_options.o_skip;
        end if;
    end if;
    v_id := pgq.insert_event(
        i_arguments[0], v_event[1], v_event[2], v_event[3], v_event[4], v_event[5], v_event[6]);
    return v_options.o_skip;
end
$$;
