-- get_last_tick: the tick that set_last_tick recorded last; null if none.
-- Callers: pgq_writer. Locks: the consumer's tracking, see hold_consumer; the answer is read in a later statement.
create or replace function pgq_ext.get_last_tick(a_consumer text, a_subconsumer text)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform pgq_ext.hold_consumer(a_consumer, a_subconsumer);
    return (select t.last_tick_id from pgq_ext.completed_tick t
            where t.consumer_id = a_consumer and t.subconsumer_id = a_subconsumer);
end
$$;

create or replace function pgq_ext.get_last_tick(a_consumer text)
returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return pgq_ext.get_last_tick(a_consumer, '');
end
$$;
