-- prune_ticks: remove ticks whose events were rotated out, the oldest first, at most i_limit; how many went.
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
    v_below := tidemill.prunable_below(i_queue_id);
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
