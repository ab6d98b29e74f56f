-- rebase_thin: leave at most i_limit ticks of a queue, evenly, and all that a consumer or a mark stands at. Their batches
-- become larger, nothing else.
-- Callers: rebase_queue. Locks: the tick rows.
create or replace function tidemill.rebase_thin(i_queue_id integer, i_limit bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_used  bigint[];
    v_count bigint;
begin
    select count(*) into v_count from pgq.tick where tick_queue = i_queue_id;
    if v_count <= i_limit then
        return;
    end if;
    select array_agg(distinct t) into v_used from (
        select unnest(array[sub_last_tick, sub_next_tick]) as t from pgq.subscription where sub_queue = i_queue_id
        union all select max(tick_id) from pgq.tick where tick_queue = i_queue_id
        union all select min(tick_id) from pgq.tick where tick_queue = i_queue_id
        union all select (m #>> '{to,tick}')::bigint from tidemill.rebased r, jsonb_array_elements(r.positions) m
                  where r.queue_id = i_queue_id) u
    where t is not null;
    if cardinality(v_used) >= i_limit then
        raise exception 'queue % has % consumers, and this cluster has had only % transactions',
            i_queue_id, cardinality(v_used), i_limit
            using errcode = 'program_limit_exceeded',
                  hint = 'Let it do some more, for example `select txid_current()` in pgbench, and repeat the rebase.';
    end if;
    delete from pgq.tick t using (
        select tick_id, row_number() over (order by tick_id) as n from pgq.tick where tick_queue = i_queue_id) o
    where t.tick_queue = i_queue_id and t.tick_id = o.tick_id and t.tick_id <> all (v_used)
      and o.n % ceil(v_count::numeric / (i_limit - cardinality(v_used)))::bigint <> 0;
end
$$;
