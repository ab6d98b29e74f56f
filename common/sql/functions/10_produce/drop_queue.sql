-- drop_queue: remove a queue with its events. Without force it refuses while consumers are registered.
-- Callers: pgq_admin. Locks: advisory lock 7465004, the queue's row, the queue's tick lock, its tables.
create or replace function pgq.drop_queue(x_queue_name text, x_force boolean)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    q record;
    c record;
begin
    perform pg_advisory_xact_lock(7465004);
    select queue_id, queue_ntables, queue_data_pfx, queue_event_seq, queue_tick_seq
    into q from pgq.queue where queue_name = x_queue_name for update;
    if not found then
        raise exception 'No such event queue';
    end if;
    if x_force then
        for c in
            select co.co_name from pgq.subscription s join pgq.consumer co on co.co_id = s.sub_consumer
            where s.sub_queue = q.queue_id order by s.sub_id, co.co_name
        loop
            perform pgq.unregister_consumer(x_queue_name, c.co_name);
        end loop;
    elsif exists (select 1 from pgq.subscription where sub_queue = q.queue_id) then
        raise exception 'cannot drop queue, consumers still attached';
    end if;

    -- A job queue has companions (journal, waiting room): their own function knows them.
    if to_regprocedure('tidemill.drop_job_queue(integer)') is not null then
        execute 'select tidemill.drop_job_queue($1)' using q.queue_id;
    end if;

    perform pg_advisory_xact_lock(7465001, q.queue_id);
    for n in 0 .. q.queue_ntables - 1 loop
        execute format('drop table %s', pgq.quote_fqname(q.queue_data_pfx || '_' || n));
    end loop;
    execute format('drop table %s', pgq.quote_fqname(q.queue_data_pfx));
    delete from pgq.tick where tick_queue = q.queue_id;
    delete from pgq.retry_queue where ev_queue = q.queue_id;
    delete from tidemill.tick_horizon where queue_id = q.queue_id;
    execute format('drop sequence %s', pgq.quote_fqname(q.queue_tick_seq));
    execute format('drop sequence %s', pgq.quote_fqname(q.queue_event_seq));
    delete from pgq.queue where queue_id = q.queue_id;
    return 1;
end
$$;

create or replace function pgq.drop_queue(x_queue_name text)
returns integer
language sql strict
set search_path = pg_catalog, pg_temp
as $$
    select pgq.drop_queue(x_queue_name, false);
$$;
