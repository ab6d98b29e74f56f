-- leading_comment: the comment that a text begins with, to its end; comments inside it are counted.
-- Callers: bind_columns. Locks: none.
create or replace function tidemill.leading_comment(i_text text)
returns text
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_at    integer := 1;
    v_level integer := 0;
begin
    loop
        case substr(i_text, v_at, 2)
            when '/*' then
                v_level := v_level + 1;
                v_at := v_at + 2;
            when '*/' then
                v_level := v_level - 1;
                v_at := v_at + 2;
            when '' then
                raise exception 'QB: syntax error';
            else
                v_at := v_at + 1;
        end case;
        exit when v_level = 0;
    end loop;
    return left(i_text, v_at - 1);
end
$$;
