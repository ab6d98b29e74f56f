-- evaluate: the text of an expression's value; of a condition, true or false.
-- Callers: log_row, with the rights of who changes the table, and with its search_path. Locks: what the expression takes.
--
-- The expression is the text behind a `select`, so it may be empty, or have a FROM and a WHERE of its own.
create or replace function tidemill.evaluate(
    i_expression text, i_is_condition boolean, i_path text, i_row anyelement, i_before anyelement)
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    -- The new line ends a comment at the end of the expression.
    v_statement text := format($sql$
        select pg_catalog.count(*), (pg_catalog.array_agg(pg_catalog.pg_typeof(v)::pg_catalog.oid))[1],
               (pg_catalog.array_agg(case when v is distinct from null then pg_catalog.format('%%s', v) end))[1]
        from (select %s
             ) as e (v)$sql$, i_expression);
    v_count bigint;
    v_type  oid;
    v_text  text;
begin
    if i_expression ~ '^[[:space:]]*$' then
        if i_is_condition then
            raise exception 'when= query result must be boolean, got=0';
        end if;
        return null;
    end if;
    perform set_config('search_path', i_path, true);
    execute v_statement into v_count, v_type, v_text using i_row, i_before;
    perform set_config('search_path', 'pg_catalog, pg_temp', true);
    if v_count <> 1 then
        raise exception 'Expect 1 row from override query, got %', v_count;
    end if;
    if i_is_condition then
        if v_type <> 'bool'::regtype then
            raise exception 'when= query result must be boolean, got=%', v_type;
        elsif v_text is null then
            raise exception 'when= should not be NULL';
        end if;
    end if;
    return v_text;
end
$$;
