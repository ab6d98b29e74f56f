-- next_batch_custom: the next batch for one member of a cooperative consumer, or null. Consumer and member are
-- registered if they are not. In this order: the member's own open batch again; a batch of a member that gave no sign of
-- life for i_dead_interval; the main consumer's next batch, whose cursor moves past it at once.
-- Callers: pgq_reader. Locks: the main subscription's row, so that the group's calls come one after the other; then the
-- member's, and that of the dead member (not waited for: who holds it lives).
--
-- A batch that is taken over gets a new id: the old one is dead, so its old owner can neither finish it nor retry its
-- events. Members without a batch hold nothing back and stay; after a day without a sign their rows go.
create or replace function pgq_coop.next_batch_custom(
    i_queue_name text, i_consumer_name text, i_subconsumer_name text,
    i_min_lag interval, i_min_count integer, i_min_interval interval, i_dead_interval interval)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    m     record;
    s     record;
    b     record;
    v_new boolean := false;
begin
    loop
        select sub.sub_queue, sub.sub_consumer, sub.sub_id, sub.sub_batch,
               (select r.role from tidemill.consumer_role r where r.sub_id = sub.sub_id) as role
        into m
        from pgq.queue q
        join pgq.subscription sub on sub.sub_queue = q.queue_id
        join pgq.consumer c on c.co_id = sub.sub_consumer
        where q.queue_name = i_queue_name and c.co_name = i_consumer_name
        for update of sub;
        if found then
            if m.role is not null then
                perform tidemill.require_consumer_role(m.role, m.sub_id);
            end if;
            select sub.sub_consumer, sub.sub_batch, sub.sub_active into s
            from pgq.subscription sub
            join pgq.consumer c on c.co_id = sub.sub_consumer
            where sub.sub_queue = m.sub_queue and sub.sub_id = m.sub_id
              and c.co_name = i_consumer_name || '.' || i_subconsumer_name
            for update of sub;
        end if;
        exit when found or v_new;
        perform pgq_coop.register_subconsumer(i_queue_name, i_consumer_name, i_subconsumer_name);
        v_new := true;
    end loop;
    if s.sub_batch is not null then
        update pgq.subscription set sub_active = now()
        where sub_queue = m.sub_queue and sub_consumer = s.sub_consumer;
        return s.sub_batch;
    end if;

    if i_dead_interval is not null then
        select sub.sub_consumer, sub.sub_last_tick as prev_tick_id, sub.sub_next_tick as cur_tick_id,
               nextval('pgq.batch_id_seq') as batch_id
        into b
        from pgq.subscription sub
        where sub.sub_queue = m.sub_queue and sub.sub_id = m.sub_id
          and sub.sub_consumer not in (m.sub_consumer, s.sub_consumer)
          and sub.sub_batch is not null and sub.sub_active < now() - i_dead_interval
        order by sub.sub_active limit 1
        for update of sub skip locked;
        if found then
            delete from pgq.subscription where sub_queue = m.sub_queue and sub_consumer = b.sub_consumer;
        else
            delete from pgq.subscription
            where sub_queue = m.sub_queue and sub_id = m.sub_id
              and sub_consumer not in (m.sub_consumer, s.sub_consumer)
              and sub_batch is null and sub_active < now() - greatest(i_dead_interval, '1 day');
            b := null;
        end if;
    end if;
    if b is null then
        if m.sub_batch is not null then
            raise exception 'main consumer has batch open?';
        end if;
        select f.batch_id, f.prev_tick_id, f.cur_tick_id into b
        from pgq.next_batch_custom(i_queue_name, i_consumer_name, i_min_lag, i_min_count, i_min_interval) f;
        if b.batch_id is null then
            -- A sign of life now and then; not a row version for each look.
            update pgq.subscription set sub_active = now()
            where sub_queue = m.sub_queue and sub_consumer = s.sub_consumer
              and sub_active < now() - interval '1 minute';
            return null;
        end if;
        update pgq.subscription
        set sub_last_tick = b.cur_tick_id, sub_batch = null, sub_next_tick = null, sub_active = now()
        where sub_queue = m.sub_queue and sub_consumer = m.sub_consumer;
    end if;
    update pgq.subscription
    set sub_batch = b.batch_id, sub_last_tick = b.prev_tick_id, sub_next_tick = b.cur_tick_id, sub_active = now()
    where sub_queue = m.sub_queue and sub_consumer = s.sub_consumer;
    perform tidemill.note_batch(b.batch_id, m.sub_queue, s.sub_consumer);
    return b.batch_id;
end
$$;

create or replace function pgq_coop.next_batch_custom(
    i_queue_name text, i_consumer_name text, i_subconsumer_name text,
    i_min_lag interval, i_min_count integer, i_min_interval interval)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    return pgq_coop.next_batch_custom(
        i_queue_name, i_consumer_name, i_subconsumer_name, i_min_lag, i_min_count, i_min_interval, null);
end
$$;
