-- register_consumer, register_consumer_at: subscribe a consumer to a queue, from now or from an existing tick. 1 = new,
-- 0 = was registered; a position then moves its cursor and discards its open batch.
-- Callers: pgq_reader. Locks: the queue's row (share, so that no rotation removes the tick meanwhile), then the
-- subscription's row.
create or replace function pgq.register_consumer_at(x_queue_name text, x_consumer_name text, x_tick_pos bigint)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_queue    integer;
    v_consumer integer;
    v_last     bigint;
    v_new      boolean;
    s          record;
begin
    perform tidemill.require_identity();
    -- Any name will do, as in PgQ: Londiste puts names of tables into its own.
    if coalesce(x_consumer_name, '') = '' then
        raise exception 'a consumer needs a name' using errcode = 'invalid_parameter_value';
    end if;
    select queue_id into v_queue from pgq.queue where queue_name = x_queue_name for share;
    if not found then
        raise exception 'Event queue not created yet';
    end if;
    select tick_id into v_last from pgq.tick
    where tick_queue = v_queue order by tick_queue desc, tick_id desc limit 1;
    if not found then
        raise exception 'No ticks for this queue.  Please run ticker on database.';
    end if;
    if x_tick_pos is not null
        and not exists (select 1 from pgq.tick where tick_queue = v_queue and tick_id = x_tick_pos)
    then
        raise exception 'cannot reposition, tick not found: %', x_tick_pos;
    end if;

    insert into pgq.consumer (co_name) values (x_consumer_name) on conflict (co_name) do nothing;
    select co_id into v_consumer from pgq.consumer where co_name = x_consumer_name for key share;
    insert into pgq.subscription (sub_queue, sub_consumer, sub_last_tick)
    values (v_queue, v_consumer, coalesce(x_tick_pos, v_last))
    on conflict (sub_queue, sub_consumer) do nothing;
    v_new := found;
    if not v_new then
        select sub.sub_id, (select r.role from tidemill.consumer_role r where r.sub_id = sub.sub_id) as role into s
        from pgq.subscription sub where sub.sub_queue = v_queue and sub.sub_consumer = v_consumer;
        if s.role is not null then
            perform tidemill.require_consumer_role(s.role, s.sub_id);
        end if;
    end if;
    if not v_new and x_tick_pos is not null then
        update pgq.subscription
        set sub_last_tick = x_tick_pos, sub_batch = null, sub_next_tick = null, sub_active = now()
        where sub_queue = v_queue and sub_consumer = v_consumer;
    end if;
    return v_new::integer;
end
$$;

create or replace function pgq.register_consumer(x_queue_name text, x_consumer_id text)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return pgq.register_consumer_at(x_queue_name, x_consumer_id, null);
end
$$;
