-- is_batch_done: was this batch the last one that set_batch_done recorded?
-- Callers: pgq_writer. Locks: the consumer's tracking, see hold_consumer; the answer is read in a later statement.
create or replace function pgq_ext.is_batch_done(a_consumer text, a_subconsumer text, a_batch_id bigint)
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform pgq_ext.hold_consumer(a_consumer, a_subconsumer);
    return exists (
        select 1 from pgq_ext.completed_batch b
        where b.consumer_id = a_consumer and b.subconsumer_id = a_subconsumer and b.last_batch_id = a_batch_id);
end
$$;

create or replace function pgq_ext.is_batch_done(a_consumer text, a_batch_id bigint)
returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return pgq_ext.is_batch_done(a_consumer, '', a_batch_id);
end
$$;
