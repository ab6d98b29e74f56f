-- urlencode: `[0-9A-Za-z_.-]` as they are, space as `+`, the rest as %xx, byte by byte in the database's encoding.
-- Callers: url_row. Locks: none.
create or replace function tidemill.urlencode(i_text text)
returns text
language plpgsql immutable strict
set search_path = pg_catalog, pg_temp
as $$
declare
    v_text text := i_text;
begin
    if i_text !~ '[^0-9A-Za-z_.-]' then
        return i_text;
    end if;
    -- What is printable in ASCII, white space, and what url_row puts between values: a plain replacement is much cheaper than a regular expression. % and + come first.
    v_text := replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(
              replace(replace(replace(replace(replace(replace(replace(replace(
              replace(replace(replace(replace(replace(replace(replace(replace(
              replace(replace(replace(replace(replace(replace(v_text,
        '%', '%25'), '+', '%2b'), ' ', '+'), '!', '%21'), '"', '%22'), '#', '%23'), '$', '%24'), '&', '%26'),
        '''', '%27'), '(', '%28'), ')', '%29'), '*', '%2a'), ',', '%2c'), '/', '%2f'), ':', '%3a'), ';', '%3b'),
        '<', '%3c'), '=', '%3d'), '>', '%3e'), '?', '%3f'), '@', '%40'), '[', '%5b'), E'\\', '%5c'), ']', '%5d'),
        '^', '%5e'), '`', '%60'), '{', '%7b'), '|', '%7c'), '}', '%7d'), '~', '%7e'),
        E'\t', '%09'), E'\n', '%0a'), E'\r', '%0d'), E'\x01', '%01');
    if v_text !~ '[^!-~]' then
        return v_text;
    end if;
    return (
        select string_agg(
            m[1] || regexp_replace(encode(convert_to(m[2], getdatabaseencoding()), 'hex'), '..', E'%\\&', 'g'), '' order by n)
        from regexp_matches(v_text, '([!-~]*)([^!-~]*)', 'g') with ordinality r (m, n));
end
$$;
