-- row_values: the text of each value of a row, from the text of the whole row: `(1,"a b",,"")` is {1,a b,NULL,""}.
-- Callers: log_row. Locks: none.
--
-- This is the only way to the output of each column's type without naming the columns: a cast to text gives another
-- text for boolean, inet, char(n). Cut at the quotes: pieces are in turn outside and inside of them, and an empty piece
-- outside is a quote that was doubled. \x01 then separates the values, and \x02 stands for NULL; a row that contains one
-- of these takes a regular expression, which is four times as slow.
create or replace function tidemill.row_values(i_row text)
returns text[]
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_body   text := substr(i_row, 2, length(i_row) - 2);
    v_joined text;
begin
    if v_body = '' then
        return array[null::text];
    elsif strpos(v_body, '"') = 0 then
        return string_to_array(v_body, ',', '');
    elsif strpos(v_body, E'\x01') > 0 or strpos(v_body, E'\x02') > 0 then
        return array(
            select case when m[1] is null then nullif(m[2], '') else replace(replace(m[1], '""', '"'), E'\\\\', E'\\') end
            from regexp_matches(',' || v_body, ',(?:"((?:[^"]|"")*)"|([^",]*))', 'g') with ordinality r (m, n)
            order by n);
    end if;
    select string_agg(
               case when n % 2 = 0 then piece
                    when piece = '' then '"'
                    else replace(replace(replace(piece, ',,', E',\x02,'), ',,', E',\x02,'), ',', E'\x01') end, '' order by n)
    into v_joined
    from unnest(string_to_array(',' || v_body || ',', '"')) with ordinality p (piece, n);
    return string_to_array(replace(substr(v_joined, 2, length(v_joined) - 2), E'\\\\', E'\\'), E'\x01', E'\x02');
end
$$;
