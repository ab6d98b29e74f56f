-- set_last_tick: record the tick up to which everything is applied, in the transaction that applies it; null forgets the
-- consumer. Always 1.
-- Callers: pgq_writer. Locks: the consumer's tracking, see hold_consumer, and its row.
create or replace function pgq_ext.set_last_tick(a_consumer text, a_subconsumer text, a_tick_id bigint)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform pgq_ext.hold_consumer(a_consumer, a_subconsumer);
    if a_tick_id is null then
        delete from pgq_ext.completed_tick t
        where t.consumer_id = a_consumer and t.subconsumer_id = a_subconsumer;
    else
        insert into pgq_ext.completed_tick (consumer_id, subconsumer_id, last_tick_id)
        values (a_consumer, a_subconsumer, a_tick_id)
        on conflict on constraint completed_tick_pkey do update set last_tick_id = excluded.last_tick_id;
    end if;
    return 1;
end
$$;

create or replace function pgq_ext.set_last_tick(a_consumer text, a_tick_id bigint)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return pgq_ext.set_last_tick(a_consumer, '', a_tick_id);
end
$$;
