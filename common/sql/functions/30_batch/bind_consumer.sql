-- bind_consumer: bind a consumer to a role: from now on only members of the role (and administrators) open, read, retry
-- and finish its batches, move it and unregister it. A consumer that is not registered is registered, from the last
-- tick on. The members of a cooperative consumer are bound with it. 1, or 0 when it was bound to this role already.
-- Callers: pgq_admin for every consumer and role; pgq_reader for a role that he is a member of, and a consumer that he
-- registers by this call, or that is bound to a role of his. Locks: the subscription's row.
--
-- It protects a consumer's progress, not the events' content: pgq_reader reads every event table.
create or replace function tidemill.bind_consumer(i_queue_name text, i_consumer_name text, i_role regrole)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_new   boolean;
    v_sub   integer;
    v_bound regrole;
begin
    if not tidemill.owns_pgq() then
        raise exception 'the functions of the real PgQ in this database do not know bound consumers'
            using errcode = 'feature_not_supported';
    end if;
    if not exists (select 1 from pg_roles where oid = i_role) then
        raise exception 'role % does not exist', i_role using errcode = 'undefined_object';
    end if;
    v_new := pgq.register_consumer(i_queue_name, i_consumer_name) = 1;
    select sub.sub_id into strict v_sub
    from pgq.queue q
    join pgq.subscription sub on sub.sub_queue = q.queue_id
    join pgq.consumer c on c.co_id = sub.sub_consumer
    where q.queue_name = i_queue_name and c.co_name = i_consumer_name
    for update of sub;
    select role into v_bound from tidemill.consumer_role where sub_id = v_sub;
    if not tidemill.is_admin() then
        if not pg_has_role(tidemill.caller(), i_role, 'member') then
            raise exception '% is not a member of role %', tidemill.caller(), i_role
                using errcode = 'insufficient_privilege';
        elsif not v_new and v_bound is null then
            raise exception 'consumer % of queue % was registered before: only a member of pgq_admin can bind it',
                i_consumer_name, i_queue_name using errcode = 'insufficient_privilege';
        end if;
    end if;
    insert into tidemill.consumer_role as r (sub_id, role) values (v_sub, i_role)
    on conflict on constraint consumer_role_pkey do update
        set role = excluded.role, bound_at = excluded.bound_at, bound_by = excluded.bound_by;
    return (v_bound is distinct from i_role)::integer;
end
$$;

-- unbind_consumer: everybody with pgq_reader may use the consumer again. 1, or 0 when it was not bound.
-- Callers: pgq_admin, members of the role. Locks: the subscription's row.
create or replace function tidemill.unbind_consumer(i_queue_name text, i_consumer_name text)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    s record;
begin
    select sub.sub_id, (select r.role from tidemill.consumer_role r where r.sub_id = sub.sub_id) as role into s
    from pgq.queue q
    join pgq.subscription sub on sub.sub_queue = q.queue_id
    join pgq.consumer c on c.co_id = sub.sub_consumer
    where q.queue_name = i_queue_name and c.co_name = i_consumer_name
    for update of sub;
    if not found then
        raise exception 'Not subscriber to queue: %/%', i_queue_name, i_consumer_name;
    end if;
    if s.role is null then
        return 0;
    end if;
    perform tidemill.require_consumer_role(s.role, s.sub_id);
    delete from tidemill.consumer_role where sub_id = s.sub_id;
    return 1;
end
$$;
