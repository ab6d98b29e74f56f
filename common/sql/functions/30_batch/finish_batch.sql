-- finish_batch: the batch is done, the cursor moves past it. 1, or 0 with a warning when there is no such open batch.
-- For a member of a cooperative consumer it does what pgq_coop.finish_batch does: a member has no cursor.
-- Callers: pgq_reader. Locks: the subscription's row.
create or replace function pgq.finish_batch(x_batch_id bigint)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_row tid;
    b     record;
begin
    loop
        v_row := tidemill.batch_row(x_batch_id);
        if v_row is null then
            raise warning 'finish_batch: batch % not found', x_batch_id;
            return 0;
        end if;
        update pgq.subscription s
        set sub_active = now(), sub_next_tick = null, sub_batch = null,
            sub_last_tick =
                case when not tidemill.is_member(s.sub_queue, s.sub_id, s.sub_consumer) then s.sub_next_tick end
        where s.ctid = v_row and s.sub_batch = x_batch_id
        returning s.sub_id, (select r.role from tidemill.consumer_role r where r.sub_id = s.sub_id) as role into b;
        -- Otherwise somebody changed the row since it was found: it is elsewhere now, or the batch is finished.
        exit when found;
    end loop;
    if b.role is not null then
        perform tidemill.require_consumer_role(b.role, b.sub_id);
    end if;
    return 1;
end
$$;
