-- quote_fqname: quote `schema.name` for a statement; the first dot separates, without one the schema is public.
-- Callers: everybody. Locks: none.
create or replace function pgq.quote_fqname(i_name text)
returns text
language plpgsql strict immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_dot integer := position('.' in i_name);
begin
    if v_dot > 0 then
        return quote_ident(substr(i_name, 1, v_dot - 1)) || '.' || quote_ident(substr(i_name, v_dot + 1));
    end if;
    return 'public.' || quote_ident(i_name);
end
$$;
