-- next_batch, next_batch_info, next_batch_custom: open the next batch of a consumer, or return the one that is open.
-- Callers: pgq_reader. Locks: the subscription's row, only when a batch is really opened.
--
-- Concurrent calls under one consumer name get the same batch id: who comes second waits for the row and then finds
-- the batch open. A consumer with nothing to read locks and writes nothing.
--
-- While somebody holds an old snapshot, the row's versions pile up: hence "newest first", see batch_row.
create or replace function pgq.next_batch_custom(
    in i_queue_name text, in i_consumer_name text,
    in i_min_lag interval, in i_min_count integer, in i_min_interval interval,
    out batch_id bigint, out cur_tick_id bigint, out prev_tick_id bigint,
    out cur_tick_time timestamptz, out prev_tick_time timestamptz,
    out cur_tick_event_seq bigint, out prev_tick_event_seq bigint)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
as $$
declare
    s        record;
    v_locked boolean := false;
begin
    loop
        select sub.ctid, sub.sub_id, sub.sub_queue, sub.sub_consumer, sub.sub_last_tick, sub.sub_batch, sub.sub_next_tick,
               (select r.role from tidemill.consumer_role r where r.sub_id = sub.sub_id) as role
        into s
        from pgq.queue q
        join pgq.consumer c on c.co_name = i_consumer_name
        cross join lateral (
            select x.ctid, x.* from pgq.subscription x
            where x.sub_queue = q.queue_id and x.sub_consumer between c.co_id and c.co_id
            order by x.sub_consumer desc limit 1) sub
        where q.queue_name = i_queue_name;
        if not found then
            raise exception 'Not subscriber to queue: %/%',
                coalesce(i_queue_name, 'NULL'), coalesce(i_consumer_name, 'NULL');
        end if;
        if s.role is not null then
            perform tidemill.require_consumer_role(s.role, s.sub_id);
        end if;
        select t.tick_id, t.tick_time, t.tick_event_seq
        into prev_tick_id, prev_tick_time, prev_tick_event_seq
        from pgq.tick t where t.tick_queue = s.sub_queue and t.tick_id = s.sub_last_tick;
        if not found then
            -- A batch finished between the two statements, and a rotation since? Only a locked row can tell.
            if v_locked then
                raise exception 'PgQ corruption: Consumer % on queue % does not see tick %',
                    i_consumer_name, i_queue_name, '<NULL>';
            end if;
        elsif s.sub_batch is not null then
            select t.tick_id, t.tick_time, t.tick_event_seq
            into cur_tick_id, cur_tick_time, cur_tick_event_seq
            from pgq.tick t where t.tick_queue = s.sub_queue and t.tick_id = s.sub_next_tick;
            batch_id := s.sub_batch;
            perform tidemill.note_batch(batch_id, s.sub_queue, s.sub_consumer);
            return;
        else
            if i_min_count is null and i_min_interval is null then
                select t.tick_id, t.tick_time, t.tick_event_seq
                into cur_tick_id, cur_tick_time, cur_tick_event_seq
                from pgq.tick t where t.tick_queue = s.sub_queue and t.tick_id > s.sub_last_tick
                order by t.tick_queue, t.tick_id limit 1;
            else
                select h.next_tick_id, h.next_tick_time, h.next_tick_seq
                into cur_tick_id, cur_tick_time, cur_tick_event_seq
                from pgq.find_tick_helper(s.sub_queue, s.sub_last_tick, prev_tick_time, prev_tick_event_seq,
                                          i_min_count, i_min_interval) h;
            end if;
            if cur_tick_id is null or (i_min_lag is not null and cur_tick_time > now() - i_min_lag) then
                cur_tick_id := null; cur_tick_time := null; cur_tick_event_seq := null;
                prev_tick_id := null; prev_tick_time := null; prev_tick_event_seq := null;
                return;
            end if;
            exit when v_locked;
        end if;
        -- There is something: lock the row, then look again in a later statement.
        perform 1 from pgq.subscription sub
        where sub.sub_queue = s.sub_queue and sub.sub_consumer between s.sub_consumer and s.sub_consumer
        order by sub.sub_consumer desc limit 1 for update;
        v_locked := true;
    end loop;

    perform tidemill.require_identity();
    batch_id := nextval('pgq.batch_id_seq');
    update pgq.subscription sub
    set sub_batch = batch_id, sub_next_tick = cur_tick_id, sub_active = now()
    where sub.ctid = s.ctid;
    perform tidemill.note_batch(batch_id, s.sub_queue, s.sub_consumer);
end
$$;

create or replace function pgq.next_batch_info(
    in i_queue_name text, in i_consumer_name text,
    out batch_id bigint, out cur_tick_id bigint, out prev_tick_id bigint,
    out cur_tick_time timestamptz, out prev_tick_time timestamptz,
    out cur_tick_event_seq bigint, out prev_tick_event_seq bigint)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    select f.batch_id, f.cur_tick_id, f.prev_tick_id, f.cur_tick_time, f.prev_tick_time,
           f.cur_tick_event_seq, f.prev_tick_event_seq
    into batch_id, cur_tick_id, prev_tick_id, cur_tick_time, prev_tick_time, cur_tick_event_seq, prev_tick_event_seq
    from pgq.next_batch_custom(i_queue_name, i_consumer_name, null, null, null) f;
end
$$;

create or replace function pgq.next_batch(i_queue_name text, i_consumer_name text)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    return (select f.batch_id from pgq.next_batch_custom(i_queue_name, i_consumer_name, null, null, null) f);
end
$$;
