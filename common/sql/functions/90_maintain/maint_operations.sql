-- maint_operations: what pgqd should run now, in order: a function and its argument, or vacuum and a table.
-- Callers: pgq_admin. Locks: none.
create or replace function pgq.maint_operations(out func_name text, out func_arg text)
returns setof record
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_waits boolean := exists (select 1 from pgq.queue where queue_switch_step2 is null);
    q       record;
begin
    for q in
        select queue_name from pgq.queue
        where queue_rotation_period is not null and queue_switch_step2 is not null
          and queue_switch_time + queue_rotation_period < now()
        order by queue_name
    loop
        func_name := 'pgq.maint_rotate_tables_step1';
        func_arg := q.queue_name;
        v_waits := true;
        return next;
    end loop;
    if v_waits then
        func_name := 'pgq.maint_rotate_tables_step2';
        func_arg := null;
        return next;
    end if;
    return query
    select f.name, qu.queue_name from pgq.queue qu, unnest(qu.queue_extra_maint) with ordinality f(name, n)
    order by qu.queue_name, f.n;
    return query select 'vacuum', t.name from pgq.maint_tables_to_vacuum() as t(name);
    if to_regprocedure('pgq_node.maint_watermark(text)') is not null then
        return query execute
            'select ''pgq_node.maint_watermark'', n.queue_name from pgq_node.node_info n'
            ' where n.node_type = ''root'' order by n.queue_name';
    end if;
    if to_regprocedure('londiste.root_check_seqs(text)') is not null then
        return query execute
            'select distinct ''londiste.root_check_seqs'', s.queue_name from londiste.seq_info s, pgq_node.node_info n'
            ' where s.local and n.node_type = ''root'' and n.queue_name = s.queue_name';
    end if;
    if to_regprocedure('londiste.periodic_maintenance()') is not null then
        return query select 'londiste.periodic_maintenance', null::text;
    end if;
end
$$;
