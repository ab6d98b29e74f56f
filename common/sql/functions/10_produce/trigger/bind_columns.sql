-- bind_columns: an expression of a trigger's options with each column's name in it replaced by the row's value. That is
-- field access to $1, the row, or to $2, the row before, for the columns of i_before.
-- Callers: log_row. Locks: none.
--
-- The rules are PgQ's: a name counts as it is written, never if it is quoted or has a dot; `QB: syntax error` where a
-- quoted name begins or something does not end.
create or replace function tidemill.bind_columns(i_expression text, i_columns text[], i_before text[])
returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_rest   text := i_expression;
    v_bound  text := '';
    v_string text := case when current_setting('standard_conforming_strings')::boolean
                          then $re$'(?:[^']|'')*'$re$ else $re$'(?:[^'\\]|''|\\.)*'$re$ end;
    v_token  text;
    v_level  integer;
begin
    while v_rest <> '' loop
        v_token := substring(v_rest from
            $re$^(?:\s+|--[^\n]*|[eE]'(?:[^'\\]|''|\\.)*'|(?:[A-Za-z_](?:[0-9A-Za-z_.]|"(?:[^"]|"")*")*)|\.?[0-9][0-9.]*(?:[eE][-+.]?[0-9][0-9.]*)*|\$[0-9]+|$re$
            || v_string || $re$|\$(?:[A-Za-z_][^$]*)?\$|/\*)$re$);
        if v_token is null then
            v_token := left(v_rest, 1);
            if v_token in ('''', '"', '$', '.') then
                raise exception 'QB: syntax error';
            end if;
        elsif starts_with(v_token, '$') and right(v_token, 1) = '$' then
            v_level := strpos(substr(v_rest, length(v_token) + 1), v_token);
            if v_level = 0 then
                raise exception 'QB: syntax error';
            end if;
            v_token := left(v_rest, v_level + 2 * length(v_token) - 1);
        elsif starts_with(v_token, '$') then
            raise exception 'there is no parameter %', v_token using errcode = 'undefined_parameter';
        elsif v_token = '/*' then
            v_token := tidemill.leading_comment(v_rest);
        elsif v_token = any (i_columns) then
            v_bound := v_bound || format('($%s).%I', case when v_token = any (i_before) then 2 else 1 end, v_token);
            v_rest := substr(v_rest, length(v_token) + 1);
            continue;
        end if;
        v_bound := v_bound || v_token;
        v_rest := substr(v_rest, length(v_token) + 1);
    end loop;
    return v_bound;
end
$$;
