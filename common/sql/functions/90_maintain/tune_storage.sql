-- tune_storage: storage settings of the event tables: full pages and no vacuum, because no row is ever changed there.
-- Callers: pgq_admin, create_queue. Locks: share update exclusive on the queue's tables. 0 = unknown queue.
create or replace function pgq.tune_storage(i_queue_name text)
returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    q       record;
    v_table text;
begin
    select queue_ntables, queue_data_pfx into q from pgq.queue where queue_name = i_queue_name;
    if not found then
        return 0;
    end if;
    for n in 0 .. q.queue_ntables - 1 loop
        v_table := pgq.quote_fqname(q.queue_data_pfx || '_' || n);
        execute format('alter table %s set (fillfactor = 100, autovacuum_enabled = off,'
                       ' toast.autovacuum_enabled = off)', v_table);
    end loop;
    return 1;
end
$$;
