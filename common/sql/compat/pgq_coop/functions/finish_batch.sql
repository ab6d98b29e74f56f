-- finish_batch: a member's batch is done; the group's cursor passed it when it was given out. 1, or 0 with a warning
-- when there is no such open batch of a member: a batch that was taken over has another id.
-- Callers: pgq_reader. Locks: the member's row.
create or replace function pgq_coop.finish_batch(i_batch_id bigint)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    b record;
begin
    update pgq.subscription s
    set sub_active = now(), sub_last_tick = null, sub_next_tick = null, sub_batch = null
    where s.sub_batch = i_batch_id and tidemill.is_member(s.sub_queue, s.sub_id, s.sub_consumer)
    returning s.sub_id, (select r.role from tidemill.consumer_role r where r.sub_id = s.sub_id) as role into b;
    if not found then
        raise warning 'coop_finish_batch: batch % not found', i_batch_id;
        return 0;
    end if;
    if b.role is not null then
        perform tidemill.require_consumer_role(b.role, b.sub_id);
    end if;
    return 1;
end
$$;

-- The same with the member's name: another member's batch is as unknown as a dead one.
create or replace function pgq_coop.finish_batch(
    i_queue_name text, i_consumer_name text, i_subconsumer_name text, i_batch_id bigint)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform 1
    from pgq.subscription s
    join pgq.queue q on q.queue_id = s.sub_queue
    join pgq.consumer c on c.co_id = s.sub_consumer
    where s.sub_batch = i_batch_id and q.queue_name = i_queue_name
      and c.co_name = i_consumer_name || '.' || i_subconsumer_name;
    if not found then
        raise warning 'coop_finish_batch: batch % not found', i_batch_id;
        return 0;
    end if;
    return pgq_coop.finish_batch(i_batch_id);
end
$$;
