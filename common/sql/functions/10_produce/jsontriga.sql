-- jsontriga: trigger that puts each change of a table into a queue, as JSON.
-- Callers: tables' owners with pgq_writer; who changes the table needs pgq_writer too. Locks: as insert_event.
--
-- The three triggers are the only functions without a pinned search_path: like PgQ's, they show names (regclass) as the
-- session does and evaluate the expressions of their options as the session would. Hence every name and operator here
-- is qualified, and all else happens in log_row. They are stable, so that an expression's subselect sees the database
-- as it was before the statement, also like PgQ's.
create or replace function pgq.jsontriga()
returns trigger
language plpgsql stable
as $$
begin
    if tg_level operator(pg_catalog.=) 'STATEMENT' then
        perform tidemill.log_statement('json', tg_argv, tg_op, tg_when, tg_relid, tg_table_schema, tg_table_name);
        return null;
    end if;
    if tidemill.log_row('json', tg_argv, tg_op, tg_when, tg_relid, tg_table_schema, tg_table_name,
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
