-- Function: tidemill.read_origins(queue_id, from, to)
--
--   Where the events of a queue with these ids were moved from, as far as they were: for the
--   owner, who asks once for each piece of the log that it reads.
--
-- Parameters: i_from, i_to - runs of ids, both ends included, no two with an id in common
-- Returns: o_first - event o_first + n was event o_ids[n + 1] of o_queue in o_source
-- Who: tidemill_dispatcher. Locks: none. By the primary key: one search for each run, and what
--   it holds.
create or replace function tidemill.read_origins(i_queue_id int4, i_from int8[], i_to int8[],
    out o_first int8, out o_source text, out o_queue text, out o_ids int8[])
returns setof record
language sql
stable
security definer
set search_path = pg_catalog, tidemill, pg_temp
set enable_seqscan = off
set jit = off
as $$
    select greatest(m.first_id, r.a), m.source, m.queue,
           m.source_ids[(greatest(m.first_id, r.a) - m.first_id + 1)::int4
                        : least(r.b - m.first_id + 1, cardinality(m.source_ids))::int4]
      from unnest(i_from, i_to) r (a, b),
           lateral ((select d.first_id, d.source, d.queue, d.source_ids from tidemill.moved d
                      where d.queue_id = i_queue_id and d.first_id <= r.a
                      order by d.first_id desc limit 1)
                    union all
                    (select d.first_id, d.source, d.queue, d.source_ids from tidemill.moved d
                      where d.queue_id = i_queue_id and d.first_id > r.a and d.first_id <= r.b)) m
     where m.first_id + cardinality(m.source_ids) > r.a;
$$;
