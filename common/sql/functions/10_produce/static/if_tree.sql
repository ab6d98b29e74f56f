-- if_tree: PL/pgSQL that looks for the argument queue_name in a sorted list of names by halving it, and runs the
-- statements at its place; if it is not in the list, nothing. Null without a name. The function it goes into must pin
-- its search_path: the operators are not qualified, which would be half of the text.
-- Callers: insert_event_source. Locks: none.
create or replace function tidemill.if_tree(i_names text[], i_statements text[])
returns text
language plpgsql immutable strict
set search_path = pg_catalog, pg_temp
as $$
declare
    v_count  integer := cardinality(i_names);
    v_middle integer := v_count / 2;
begin
    if v_count < 2 then
        return format('if queue_name = %L then %s end if;', i_names[1], i_statements[1]);
    end if;
    return format($tree$if queue_name < %L collate "C" then
%s
else
%s
end if;$tree$, i_names[v_middle + 1],
                  tidemill.if_tree(i_names[: v_middle], i_statements[: v_middle]),
                  tidemill.if_tree(i_names[v_middle + 1 :], i_statements[v_middle + 1 :]));
end
$$;
