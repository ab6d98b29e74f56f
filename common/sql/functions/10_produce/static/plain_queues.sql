-- plain_queues: the queues into which insert_event inserts by a statement of their own, with their current event table
-- and event sequence; of all, or of one. A queue with a rule is none of them, nor one that has no tables yet.
-- Callers: the functions that make_inserts uses. Locks: none.
create or replace function tidemill.plain_queues(
    i_queue_id integer default null,
    out queue_id integer, out queue_name text, out event_table regclass, out event_seq regclass)
returns setof record
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select q.queue_id, q.queue_name, t.event_table, t.event_seq
    from pgq.queue q, lateral (
        select to_regclass(q.queue_data_pfx || '_' || q.queue_cur_table), to_regclass(q.queue_event_seq)
    ) t (event_table, event_seq)
    where (i_queue_id is null or q.queue_id = i_queue_id)
      and not q.queue_disable_insert and q.queue_per_tx_limit is null
      and t.event_table is not null and t.event_seq is not null;
$$;
