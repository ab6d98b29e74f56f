-- _count_sequence: keeps a sequence for each queue with a queue_per_tx_limit, for count_in_transaction.
-- Callers: pgq.queue's own trigger. Locks: none but the sequence's.
create or replace function pgq._count_sequence()
returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_op = 'DELETE' then
        execute format('drop sequence if exists pgq.event_%s_count_seq', old.queue_id);
    elsif to_regclass(format('pgq.event_%s_count_seq', new.queue_id)) is null then
        execute format('create sequence pgq.event_%s_count_seq minvalue 0', new.queue_id);
    end if;
    return null;
end
$$;

create or replace trigger count_sequence
after insert or update of queue_per_tx_limit on pgq.queue
for each row when (new.queue_per_tx_limit is not null)
execute function pgq._count_sequence();

create or replace trigger count_sequence_drop
after delete on pgq.queue
for each row when (old.queue_per_tx_limit is not null)
execute function pgq._count_sequence();

update pgq.queue set queue_per_tx_limit = queue_per_tx_limit
where queue_per_tx_limit is not null and to_regclass(format('pgq.event_%s_count_seq', queue_id)) is null;
