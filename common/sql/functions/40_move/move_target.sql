-- Function: tidemill.move_target(queue, count)
--
--   Destination side: where to COPY count events, and under which ids. Only after the transaction
--   has its id, in a later READ COMMITTED statement: so the rotation that would empty this table
--   sees the transaction. Ids come from the queue's own sequence, in order; another producer may
--   take one in between, so they are given as runs.
--
-- Returns: o_queue_id; o_table - to be copied into, quoted; o_first, o_count - the runs, rising
-- Errors: 'Event queue not found'; 'Writing to queue disabled'; TM006
-- Who: tidemill_mover. Locks: none.
create or replace function tidemill.move_target(i_queue text, i_count int4,
    out o_queue_id int4, out o_table text, out o_first int8[], out o_count int4[])
language plpgsql
volatile
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_seq text;
begin
    if current_setting('transaction_isolation') <> 'read committed' or pg_current_xact_id_if_assigned() is null then
        raise exception 'move_target needs READ COMMITTED and a transaction that has its id' using errcode = 'TM006';
    end if;
    o_table := pgq.quote_fqname(pgq.current_event_table(i_queue));
    select q.queue_id, q.queue_event_seq into o_queue_id, v_seq from pgq.queue q where q.queue_name = i_queue;
    -- Numbers minus their place are equal within a run.
    select array_agg(r.first order by r.first), array_agg(r.n order by r.first) into o_first, o_count
      from (select min(g.id) as first, count(*)::int4 as n
              from (select v.id, v.id - row_number() over (order by v.id) as run
                      from (select nextval(v_seq::regclass) as id from generate_series(1, i_count)) v) g
             group by g.run) r;
end;
$$;
