-- prunable_below: ticks of a queue below this one may go, and there are some; null: none. A consumer's cursor and the
-- last tick stay, whatever the horizon says.
-- Callers: prune_ticks, maintain_tasks, tick_look. Locks: none.
create or replace function tidemill.prunable_below(i_queue_id integer)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_below bigint;
    v_first bigint;
begin
    select least(h.below_tick,
                 (select min(s.sub_last_tick) from pgq.subscription s where s.sub_queue = i_queue_id),
                 (select max(t.tick_id) from pgq.tick t where t.tick_queue = i_queue_id))
    into v_below from tidemill.tick_horizon h where h.queue_id = i_queue_id;
    select min(t.tick_id) into v_first from pgq.tick t where t.tick_queue = i_queue_id;
    return case when v_first < v_below then v_below end;
end
$$;
