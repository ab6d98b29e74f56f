-- grant_perms: give a queue's tables the grants of pgq.event_template; who may insert there may use its sequence.
-- Callers: pgq_admin, create_queue. Locks: the queue's tables' catalogue rows.
create or replace function pgq._grant_perms_from(src_schema text, src_table text, dst_schema text, dst_table text)
returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    g       record;
    v_count integer := 0;
begin
    for g in
        select a.privilege_type, a.is_grantable,
               case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end as grantee
        from pg_class c, aclexplode(c.relacl) a
        where c.oid = format('%I.%I', src_schema, src_table)::regclass and a.grantee <> c.relowner
        order by 3, 1
    loop
        execute format('grant %s on %I.%I to %s%s', g.privilege_type, dst_schema, dst_table, g.grantee,
                       case when g.is_grantable then ' with grant option' else '' end);
        v_count := v_count + 1;
    end loop;
    return v_count;
end
$$;

create or replace function pgq.grant_perms(x_queue_name text)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    q       record;
    v_role  text;
    v_table text;
begin
    select queue_ntables, queue_event_seq, queue_tick_seq, split_part(queue_data_pfx, '.', 2) as parent
    into q from pgq.queue where queue_name = x_queue_name;
    if not found then
        raise exception 'Queue not found';
    end if;
    execute format('grant select on %s, %s to public',
                   pgq.quote_fqname(q.queue_event_seq), pgq.quote_fqname(q.queue_tick_seq));
    for v_role in
        select distinct quote_ident(pg_get_userbyid(a.grantee))
        from pg_class c, aclexplode(c.relacl) a
        where c.oid = 'pgq.event_template'::regclass
          and a.grantee not in (0, c.relowner) and a.privilege_type = 'INSERT'
    loop
        execute format('grant usage on %s to %s', pgq.quote_fqname(q.queue_event_seq), v_role);
    end loop;
    perform pgq._grant_perms_from('pgq', 'event_template', 'pgq', q.parent);
    for n in 0 .. q.queue_ntables - 1 loop
        v_table := q.parent || '_' || n;
        perform pgq._grant_perms_from('pgq', 'event_template', 'pgq', v_table);
    end loop;
    return 1;
end
$$;
