-- heartbeat: a sign of life of a member, while it works on a batch for longer than the others' dead interval. In a
-- session of its own, or between the member's transactions.
-- Callers: pgq_reader. Locks: the member's row.

-- By the batch: true, or false when the batch is no longer the caller's (taken over, finished): stop working on it.
create or replace function pgq_coop.heartbeat(i_batch_id bigint)
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    b record;
begin
    update pgq.subscription s set sub_active = clock_timestamp()
    where s.sub_batch = i_batch_id and tidemill.is_member(s.sub_queue, s.sub_id, s.sub_consumer)
    returning s.sub_id, (select r.role from tidemill.consumer_role r where r.sub_id = s.sub_id) as role into b;
    if not found then
        return false;
    end if;
    if b.role is not null then
        perform tidemill.require_consumer_role(b.role, b.sub_id);
    end if;
    return true;
end
$$;

-- By the name: the batch that the member holds now, null when it holds none or is not registered.
create or replace function pgq_coop.heartbeat(i_queue_name text, i_consumer_name text, i_subconsumer_name text)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    b record;
begin
    update pgq.subscription s set sub_active = clock_timestamp()
    from pgq.queue q, pgq.consumer c, pgq.consumer mc, pgq.subscription m
    where q.queue_name = i_queue_name and s.sub_queue = q.queue_id
      and c.co_name = i_consumer_name || '.' || i_subconsumer_name and s.sub_consumer = c.co_id
      and mc.co_name = i_consumer_name and m.sub_queue = q.queue_id and m.sub_consumer = mc.co_id
      and s.sub_id = m.sub_id
    returning s.sub_id, s.sub_batch,
              (select r.role from tidemill.consumer_role r where r.sub_id = s.sub_id) as role into b;
    if not found then
        return null;
    end if;
    if b.role is not null then
        perform tidemill.require_consumer_role(b.role, b.sub_id);
    end if;
    return b.sub_batch;
end
$$;
