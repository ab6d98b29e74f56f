-- if_tree: PL/pgSQL that looks for the value of a variable in a sorted list of numbers by halving it, and runs the
-- statements at the place of the largest one that is not above it (of the first, if all are; of the last, if the value
-- is null). Null without a number.
-- Callers: the functions that make_inserts uses. Locks: none.
create or replace function tidemill.if_tree(i_variable text, i_from integer[], i_statements text[])
returns text
language plpgsql immutable strict
set search_path = pg_catalog, pg_temp
as $$
declare
    v_count  integer := cardinality(i_from);
    v_middle integer := v_count / 2;
begin
    if v_count < 2 then
        return i_statements[1];
    end if;
    return format($tree$if %s operator(pg_catalog.<) %s then
%s
else
%s
end if;$tree$, i_variable, i_from[v_middle + 1],
                  tidemill.if_tree(i_variable, i_from[: v_middle], i_statements[: v_middle]),
                  tidemill.if_tree(i_variable, i_from[v_middle + 1 :], i_statements[v_middle + 1 :]));
end
$$;
