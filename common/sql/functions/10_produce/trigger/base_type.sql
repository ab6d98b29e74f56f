-- base_type: what a domain, perhaps over domains, is made of; any other type is its own.
-- Callers: changed_columns. Locks: none.
create or replace function tidemill.base_type(i_type oid)
returns oid
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_type oid := i_type;
    v_base oid;
begin
    loop
        select typbasetype into v_base from pg_type where oid = v_type and typtype = 'd';
        exit when not found;
        v_type := v_base;
    end loop;
    return v_type;
end
$$;
