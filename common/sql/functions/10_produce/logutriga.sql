-- logutriga: trigger that puts each change of a table into a queue, urlencoded.
-- Callers: tables' owners with pgq_writer; who changes the table needs pgq_writer too. Locks: as insert_event.
--
-- Why it pins no search_path and is stable: see jsontriga.
create or replace function pgq.logutriga()
returns trigger
language plpgsql stable
as $$
begin
    if tg_level operator(pg_catalog.=) 'STATEMENT' then
        perform tidemill.log_statement('url', tg_argv, tg_op, tg_when, tg_relid, tg_table_schema, tg_table_name);
        return null;
    end if;
    if tidemill.log_row('url', tg_argv, tg_op, tg_when, tg_relid, tg_table_schema, tg_table_name,
                        pg_catalog.current_setting('search_path'),
                        old::pg_catalog.text, new::pg_catalog.text, old, new) then
        return null;
    end if;
    if tg_op operator(pg_catalog.=) 'DELETE' then
        return old;
    end if;
    return new;
end
$$;
