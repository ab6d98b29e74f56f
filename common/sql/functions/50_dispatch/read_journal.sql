-- Function: tidemill.read_journal(queue_id)
--
--   The low-water mark, and what happened to entries above it: what a new owner folds. A
--   record about an entry of a later tick was written by a transaction that began after
--   the mark's snapshot was taken, so its id is at least that snapshot's xmax; the index
--   on j_txid finds exactly those rows.
--
-- Returns: one row with o_low_water and NULLs, then the journal rows in the order written
-- Errors: TM004 when the queue is no job queue or its cursor's tick is gone
-- Who: tidemill_dispatcher. Locks: none.
create or replace function tidemill.read_journal(i_queue_id int4,
    out o_low_water int8, out o_epoch int8, out o_at timestamptz, out o_data bytea, out o_note jsonb)
returns setof record
language plpgsql
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_xmax  int8;
    v_table text;
    v_sql   text := '';
begin
    select s.sub_last_tick, txid_snapshot_xmax(t.tick_snapshot) into o_low_water, v_xmax
      from tidemill.job_queue j
      join pgq.subscription s on s.sub_queue = j.queue_id
      join pgq.consumer c on c.co_id = s.sub_consumer and c.co_name = 'tidemill.dispatcher'
      join pgq.tick t on t.tick_queue = s.sub_queue and t.tick_id = s.sub_last_tick
     where j.queue_id = i_queue_id;
    if not found then
        raise exception 'queue % is not a job queue, or the tick of its cursor is gone', i_queue_id using errcode = 'TM004';
    end if;
    return next;

    for v_table in
        select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = 'tidemill' and c.relkind = 'r' and c.relname ~ format('^journal_%s_[0-9]+$', i_queue_id)
    loop
        v_sql := v_sql || case when v_sql = '' then '' else ' union all ' end
              || format('select j_epoch, j_seq, j_at, j_data, j_note from tidemill.%I where j_txid >= $1', v_table);
    end loop;
    return query execute format(
        'select null::int8, j_epoch, j_at, j_data, j_note from (%s) j order by j_epoch, j_seq', v_sql) using v_xmax;
end;
$$;
