-- rotation_obstacles: which queues are due for rotation and cannot be rotated, why, and in words who stands in the way:
-- a transaction with its process and age, a prepared transaction with its name, a consumer, the process that reads the
-- table. One row per obstacle; none: nothing is in the way at this moment.
-- Callers: tidemill_ticker, for its log, tidemill_monitor, and people. Locks: none.
-- What other roles' sessions do is shown to members of pg_read_all_stats only; the process id always is.
create or replace function tidemill.rotation_obstacles()
returns table (queue_name text, reason text, detail text)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    q        record;
    v_oldest text := (txid_snapshot_xmin(txid_current_snapshot()) & 4294967295)::text;
begin
    for q in
        select qu.queue_id, qu.queue_name, tidemill.rotation_waits(qu.queue_id) as waits,
               to_regclass(format('%s_%s', qu.queue_data_pfx, (qu.queue_cur_table + 1) % qu.queue_ntables)) as next
        from pgq.queue qu
        where qu.queue_rotation_period is not null and qu.queue_switch_step2 is not null
          and qu.queue_switch_time + qu.queue_rotation_period <= now()
        order by qu.queue_name
    loop
        case q.waits
        when 'prepared_transaction' then
            return query
            select q.queue_name, q.waits, format('prepared transaction %s of %s in database %s, since %s',
                                                 quote_literal(p.gid), p.owner, p.database, p.prepared)
            from pg_prepared_xacts p where p.transaction::text = v_oldest;
        when 'oldest_transaction' then
            return query
            select q.queue_name, q.waits,
                   coalesce(
                       (select format('transaction %s of process %s (%s, database %s), open for %s', v_oldest, l.pid,
                                      coalesce(nullif(a.application_name, ''), '?'), coalesce(a.datname, '?'),
                                      coalesce((clock_timestamp() - a.xact_start)::text, '?'))
                        from pg_locks l left join pg_stat_activity a on a.pid = l.pid
                        where l.locktype = 'transactionid' and l.transactionid::text = v_oldest
                          and l.mode = 'ExclusiveLock' and l.granted and l.pid is not null limit 1),
                       format('transaction %s', v_oldest));
        when 'lagging_consumer' then
            return query
            select q.queue_name, q.waits, format('consumer %s is at tick %s, %s behind', quote_literal(c.co_name),
                                                 s.sub_last_tick, clock_timestamp() - t.tick_time)
            from pgq.subscription s
            join pgq.consumer c on c.co_id = s.sub_consumer
            left join pgq.tick t on t.tick_queue = s.sub_queue and t.tick_id = s.sub_last_tick
            where s.sub_queue = q.queue_id and s.sub_last_tick is not null
            order by s.sub_last_tick, c.co_name limit 1;
        else
            return query
            select q.queue_name, 'locked', format('process %s holds %s on %s (%s)', l.pid, l.mode, q.next,
                                                  coalesce(nullif(a.application_name, ''), '?'))
            from pg_locks l left join pg_stat_activity a on a.pid = l.pid
            where q.waits is null and l.locktype = 'relation' and l.granted and l.relation = q.next
              and l.database = (select d.oid from pg_database d where d.datname = current_database())
              and l.pid <> pg_backend_pid()
            order by l.pid;
        end case;
    end loop;
end
$$;
