-- set_batch_done: record that this transaction applies the batch. True for one transaction only: any other that comes
-- with the same batch, also at the same time, gets false and must not commit. A batch id of 0 or less is not recorded.
-- Callers: pgq_writer. Locks: the consumer's row. Of two at once the second waits for the first one's end.
create or replace function pgq_ext.set_batch_done(a_consumer text, a_subconsumer text, a_batch_id bigint)
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if a_batch_id <= 0 then
        return true;
    end if;
    insert into pgq_ext.completed_batch as b (consumer_id, subconsumer_id, last_batch_id)
    values (a_consumer, a_subconsumer, a_batch_id)
    on conflict on constraint completed_batch_pkey do update
        set last_batch_id = excluded.last_batch_id where b.last_batch_id <> excluded.last_batch_id;
    return found;
end
$$;

create or replace function pgq_ext.set_batch_done(a_consumer text, a_batch_id bigint)
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return pgq_ext.set_batch_done(a_consumer, '', a_batch_id);
end
$$;
