-- prune_ticks: remove ticks whose events were rotated out, the oldest first, at most i_limit; how many went.
-- A consumer's cursor and the last tick stay, whatever the horizon says.
-- Callers: rotate. Locks: the tick rows.
create or replace function tidemill.prune_ticks(i_queue_id integer, i_limit integer)
returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_below bigint;
    v_count integer;
begin
    select least(h.below_tick,
                 (select min(s.sub_last_tick) from pgq.subscription s where s.sub_queue = i_queue_id),
                 (select max(t.tick_id) from pgq.tick t where t.tick_queue = i_queue_id))
    into v_below from tidemill.tick_horizon h where h.queue_id = i_queue_id;
    if v_below is null then
        return 0;
    end if;
    delete from pgq.tick
    where tick_queue = i_queue_id and tick_id in (
        select tick_id from pgq.tick
        where tick_queue = i_queue_id and tick_id < v_below
        order by tick_queue, tick_id limit i_limit);
    get diagnostics v_count = row_count;
    return v_count;
end
$$;
