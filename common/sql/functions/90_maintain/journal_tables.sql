-- journal_tables: the journals of a job queue, quoted; none for any other queue.
-- Callers: the rebase. Locks: none.
create or replace function tidemill.journal_tables(i_queue_id integer)
returns setof text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select format('tidemill.%I', c.relname)
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'tidemill' and c.relkind = 'r' and c.relname ~ format('^journal_%s_[0-9]+$', i_queue_id)
    order by 1;
$$;
