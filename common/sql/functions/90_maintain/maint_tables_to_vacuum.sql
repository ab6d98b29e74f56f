-- maint_tables_to_vacuum: the tables that pgqd should vacuum: none while the server does it itself.
-- Callers: pgq_admin. Locks: none.
create or replace function pgq.maint_tables_to_vacuum()
returns setof text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('autovacuum') = 'on' then
        return;
    end if;
    return query
    select t.name from unnest(array[
        'pgq.subscription', 'pgq.consumer', 'pgq.queue', 'pgq.tick', 'pgq.retry_queue',
        'pgq_ext.completed_tick', 'pgq_ext.completed_batch', 'pgq_ext.completed_event', 'pgq_ext.partial_batch',
        'pgq_node.local_state', 'londiste.seq_info', 'londiste.completed', 'txid.epoch',
        'tidemill.ticker_term', 'tidemill.waiting', 'tidemill.owner', 'tidemill.position']) with ordinality t(name, n)
    where to_regclass(t.name) is not null order by t.n;
end
$$;
