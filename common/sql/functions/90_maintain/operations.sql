-- operations: the maintenance that others have asked for, of what pgq.maint_operations lists for pgqd: the functions of
-- queue_extra_maint, pgq_node's and Londiste's, and the tables to vacuum. Rotation is not among them: the ticker does
-- that by itself. `statement` is ready to be run; one that returns 1 wants to be run again.
-- Callers: tidemill_ticker, which runs them with its own rights. Locks: none. An idle database writes nothing for it.
create or replace function tidemill.operations()
returns table (name text, statement text)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    o record;
begin
    for o in select m.func_name, m.func_arg from pgq.maint_operations() m loop
        continue when o.func_name in ('pgq.maint_rotate_tables_step1', 'pgq.maint_rotate_tables_step2');
        name := o.func_name;
        statement := case
            when lower(o.func_name) in ('vacuum', 'vacuum analyze') then
                format('%s %s', o.func_name, pgq.quote_fqname(o.func_arg))
            -- A name in two parts; what somebody wrote into a row is never more than a name and a literal here.
            when o.func_arg is null then format('select %s()', pgq.quote_fqname(o.func_name))
            else format('select %s(%L)', pgq.quote_fqname(o.func_name), o.func_arg)
        end;
        return next;
    end loop;
end
$$;
