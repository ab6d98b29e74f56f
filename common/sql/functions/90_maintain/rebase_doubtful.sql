-- rebase_doubtful: which events of a queue has no tick here seen, and a destination that stands at this snapshot may
-- have all the same? Asked when the rows are this database's own and the destination is ahead of them: the server went
-- back, so the same transaction ids may stand for other events. The destination tells: see moved_among.
-- Callers: pgq_admin (`tidemill queue rebase`). Locks: none. Nothing is delivered meanwhile, so what is true stays true.
create or replace function tidemill.rebase_doubtful(i_queue text, i_snapshot txid_snapshot, out ev_id bigint, out ev_time timestamptz)
returns setof record
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    v_queue integer;
    v_last  txid_snapshot;
    v_table text;
begin
    select t.tick_queue, t.tick_snapshot into v_queue, v_last
    from pgq.queue q join pgq.tick t on t.tick_queue = q.queue_id
    where q.queue_name = i_queue order by t.tick_queue desc, t.tick_id desc limit 1;
    for v_table in select t from tidemill.event_tables(v_queue) t loop
        return query execute format(
            'select ev_id, ev_time from only %s where ev_txid >= $1'
            ' and not txid_visible_in_snapshot(ev_txid, $2) and txid_visible_in_snapshot(ev_txid, $3)', v_table)
        using txid_snapshot_xmin(v_last), v_last, i_snapshot;
    end loop;
end
$$;
