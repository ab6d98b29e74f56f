-- maint_retry_events: put the retry events that are due back into their queues, for their owners only; how many. At
-- most 10,000 of each queue per call: call until it returns 0. A queue that cannot take them is a warning, the others go on.
-- Callers: pgq_admin, tidemill_ticker. Locks: the due rows; those that another session moves are skipped.
create or replace function pgq.maint_retry_events()
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    q       record;
    v_count integer;
    v_total integer := 0;
begin
    if not exists (select 1 from pgq.retry_queue where ev_retry_after <= now()) then
        return 0;
    end if;
    perform txid_current();
    for q in
        select qu.queue_id, qu.queue_name from pgq.queue qu
        where exists (select 1 from pgq.retry_queue r where r.ev_queue = qu.queue_id and r.ev_retry_after <= now())
        order by qu.queue_name
    loop
        begin
            v_count := tidemill.retry_due(q.queue_id, 10000);
            v_total := v_total + v_count;
        exception when others then
            raise warning 'retry events of queue % wait: % (%)', q.queue_name, sqlerrm, sqlstate;
        end;
    end loop;
    return v_total;
end
$$;
