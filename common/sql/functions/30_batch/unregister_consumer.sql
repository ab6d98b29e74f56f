-- unregister_consumer: end a subscription with its retry events; how many subscription rows went, 0 if there was none.
-- The main name of a cooperative consumer takes its members along (their names stay); a member goes alone.
-- Callers: pgq_reader. Locks: the subscription's rows, by consumer.
create or replace function pgq.unregister_consumer(x_queue_name text, x_consumer_name text)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    s       record;
    v_count integer;
begin
    select sub.sub_id, sub.sub_queue, sub.sub_consumer,
           (select r.role from tidemill.consumer_role r where r.sub_id = sub.sub_id) as role
    into s
    from pgq.queue q
    join pgq.subscription sub on sub.sub_queue = q.queue_id
    join pgq.consumer c on c.co_id = sub.sub_consumer
    where q.queue_name = x_queue_name and c.co_name = x_consumer_name
    for update of sub;
    if not found then
        return 0;
    end if;
    if s.role is not null then
        perform tidemill.require_consumer_role(s.role, s.sub_id);
    end if;
    if exists (
        select 1 from pgq.subscription main join pgq.consumer c on c.co_id = main.sub_consumer
        where main.sub_queue = s.sub_queue and main.sub_id = s.sub_id and main.sub_consumer <> s.sub_consumer
          and starts_with(x_consumer_name, c.co_name || '.'))
    then
        delete from pgq.subscription where sub_queue = s.sub_queue and sub_consumer = s.sub_consumer;
        return 1;
    end if;
    delete from pgq.retry_queue where ev_owner = s.sub_id;
    delete from tidemill.consumer_role where sub_id = s.sub_id;
    delete from pgq.subscription where sub_queue = s.sub_queue and sub_id = s.sub_id;
    get diagnostics v_count = row_count;
    delete from pgq.consumer c
    where c.co_id = s.sub_consumer
      and not exists (select 1 from pgq.subscription sub where sub.sub_consumer = c.co_id);
    return v_count;
end
$$;
