-- register_subconsumer: make a member of a cooperative consumer, which is registered as well if it is not yet. 1 = new,
-- 0 = was registered. The member is a subscription named `<consumer>.<subconsumer>` with the same sub_id.
-- Callers: pgq_reader. Locks: see pgq.register_consumer; then the main subscription's row, then the member's.
create or replace function pgq_coop.register_subconsumer(
    i_queue_name text, i_consumer_name text, i_subconsumer_name text)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_name text := i_consumer_name || '.' || i_subconsumer_name;
    m      record;
    v_id   integer;
begin
    if i_subconsumer_name is null or v_name !~ '^[A-Za-z0-9_.:-]{1,63}$' then
        raise exception 'invalid subconsumer name: %', coalesce(quote_literal(left(i_subconsumer_name, 100)), 'NULL')
            using errcode = 'invalid_parameter_value',
                  hint = 'Both names and the dot have 1 to 63 characters of A-Z a-z 0-9 _ . : -';
    end if;
    perform pgq.register_consumer(i_queue_name, i_consumer_name);
    select sub.sub_queue, sub.sub_consumer, sub.sub_id into m
    from pgq.queue q
    join pgq.subscription sub on sub.sub_queue = q.queue_id
    join pgq.consumer c on c.co_id = sub.sub_consumer
    where q.queue_name = i_queue_name and c.co_name = i_consumer_name
    for update of sub;

    insert into pgq.consumer (co_name) values (v_name) on conflict (co_name) do nothing;
    select co_id into v_id from pgq.consumer where co_name = v_name for key share;
    insert into pgq.subscription (sub_id, sub_queue, sub_consumer) values (m.sub_id, m.sub_queue, v_id)
    on conflict (sub_queue, sub_consumer) do nothing;
    if found then
        return 1;
    end if;
    if exists (select 1 from pgq.subscription
               where sub_queue = m.sub_queue and sub_consumer = v_id and sub_id <> m.sub_id)
    then
        raise exception 'consumer % is registered on queue % on its own, not as a member of %',
            v_name, i_queue_name, i_consumer_name using errcode = 'object_in_use';
    end if;
    return 0;
end
$$;
