-- seq_getval: the last value of a sequence (`schema.name`), without taking one.
-- Callers: everybody who may read the sequence. Locks: none.
create or replace function pgq.seq_getval(i_seq_name text)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_value bigint;
begin
    execute format('select last_value from %s', pgq.quote_fqname(i_seq_name)) into v_value;
    return v_value;
end
$$;
