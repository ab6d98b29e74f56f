-- unregister_subconsumer: remove a member; 1, or 0 when there is none. With an open batch it is refused, unless
-- i_batch_handling is 1: then the events of that batch are lost for the whole group.
-- Callers: pgq_reader. Locks: the main subscription's row, then the member's.
create or replace function pgq_coop.unregister_subconsumer(
    i_queue_name text, i_consumer_name text, i_subconsumer_name text, i_batch_handling integer)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    m record;
    s record;
begin
    select sub.sub_queue, sub.sub_id,
           (select r.role from tidemill.consumer_role r where r.sub_id = sub.sub_id) as role
    into m
    from pgq.queue q
    join pgq.subscription sub on sub.sub_queue = q.queue_id
    join pgq.consumer c on c.co_id = sub.sub_consumer
    where q.queue_name = i_queue_name and c.co_name = i_consumer_name
    for update of sub;
    if not found then
        return 0;
    end if;
    if m.role is not null then
        perform tidemill.require_consumer_role(m.role, m.sub_id);
    end if;
    select sub.sub_consumer, sub.sub_batch into s
    from pgq.subscription sub
    join pgq.consumer c on c.co_id = sub.sub_consumer
    where sub.sub_queue = m.sub_queue and sub.sub_id = m.sub_id
      and c.co_name = i_consumer_name || '.' || i_subconsumer_name
    for update of sub;
    if not found then
        return 0;
    end if;
    if s.sub_batch is not null and i_batch_handling is distinct from 1 then
        raise exception 'subconsumer has active batch';
    end if;
    delete from pgq.subscription where sub_queue = m.sub_queue and sub_consumer = s.sub_consumer;
    return 1;
end
$$;
