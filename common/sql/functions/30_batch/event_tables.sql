-- event_tables: all event tables of a queue, quoted. A batch is looked for in every one of them: a cached plan, a COPY
-- or a REPEATABLE READ producer may write into the table that has just been rotated out.
-- Callers: readers of batches. Locks: none.
create or replace function tidemill.event_tables(i_queue_id integer)
returns setof text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select pgq.quote_fqname(q.queue_data_pfx || '_' || n)
    from pgq.queue q, generate_series(0, q.queue_ntables - 1) n
    where q.queue_id = i_queue_id order by n;
end
$$;
