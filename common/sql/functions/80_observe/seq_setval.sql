-- seq_setval: raise a sequence to a value, never lower it. Returns the value it has then.
-- Callers: pgq_admin. Locks: none; a nextval between the two steps is not undone, because only a higher value is set.
create or replace function pgq.seq_setval(i_seq_name text, i_new_value bigint)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_value bigint := pgq.seq_getval(i_seq_name);
begin
    if v_value < i_new_value then
        v_value := setval(pgq.quote_fqname(i_seq_name)::regclass, i_new_value);
    end if;
    return v_value;
end
$$;
