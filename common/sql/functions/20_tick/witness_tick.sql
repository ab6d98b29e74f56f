-- witness_tick: a ticker says, on a new connection, which tick it committed last. Returns
--   found: it is here. If i_last (nobody can have ticked since), no tick was lost: a new timeline is accepted.
--   lost: the queue's ticks end before it. From now on everything is refused (NeedsRebase), whatever else looks good.
--   unknown: the queue is gone, or its ticks went on and this one was pruned.
-- Callers: tidemill_ticker, also while it stands by. Locks: the identity row, if it changes.
--
-- The number is enough: on a timeline that was not accepted nobody cuts a tick, so none was issued again.
create or replace function tidemill.witness_tick(i_queue text, i_tick bigint, i_last boolean)
returns text
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_queue integer;
    v_last  bigint;
begin
    select queue_id into v_queue from pgq.queue where queue_name = i_queue;
    if not found then
        return 'unknown';
    end if;
    select tick_id into v_last from pgq.tick where tick_queue = v_queue order by tick_queue desc, tick_id desc limit 1;
    if v_last < i_tick then
        update tidemill.identity
        set refused = format('tick %s of queue %s had been cut and is lost: the server went back in time', i_tick, i_queue)
        where refused is null;
        return 'lost';
    elsif not exists (select 1 from pgq.tick where tick_queue = v_queue and tick_id = i_tick) then
        return 'unknown';
    end if;
    if i_last then
        update tidemill.identity i set timeline = s.timeline
        from tidemill.this_server() s
        where (i.system_identifier, i.database_oid) = (s.system_identifier, s.database_oid)
          and i.timeline < s.timeline and i.refused is null;
    end if;
    return 'found';
end
$$;
