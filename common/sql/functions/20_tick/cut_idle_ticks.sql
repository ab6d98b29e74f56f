-- cut_idle_ticks: store a tick for each of these queues in which nothing has happened since a tick that misses nobody,
-- and whose idle period is over: all by three statements, because this is what most queues of most databases need most
-- of the time. What is not so any more, or is locked, gets none. Returns what tick_pass does.
-- Callers: tick_pass, after require_identity. Locks: the tick lock of each queue; one that another ticker holds is
-- skipped.
--
-- Lock, sequence, snapshot, in this order, each in a statement of its own, as in cut_tick. There is no news, so nobody is
-- notified: commits with a NOTIFY wait for one another in the whole cluster.
create or replace function tidemill.cut_idle_ticks(i_queues integer[])
returns table (queue_name text, tick_id bigint, new_events bigint, problem text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_queues integer[];
    v_seqs   bigint[];
    v_last   text[];
    v_ticks  bigint[];
    v_cut    txid_snapshot;
begin
    if current_setting('synchronous_commit') not in ('on', 'remote_apply') then
        perform set_config('synchronous_commit', 'on', true);
    end if;
    v_queues := array(select q from unnest(i_queues) q where pg_try_advisory_xact_lock(7465001, q));

    select array_agg(t.tick_queue), array_agg(t.tick_event_seq), array_agg(distinct t.tick_snapshot::text)
    into v_queues, v_seqs, v_last
    from unnest(v_queues) u (queue_id)
    join pgq.queue q on q.queue_id = u.queue_id
    cross join lateral (
        select * from pgq.tick l where l.tick_queue = u.queue_id order by l.tick_queue desc, l.tick_id desc limit 1) t
    where coalesce(pg_sequence_last_value(q.queue_event_seq::regclass), 0) = t.tick_event_seq
      and current_setting('tidemill.settled_' || u.queue_id, true) = t.tick_id::text
      and clock_timestamp() - t.tick_time >= greatest(q.queue_ticker_idle_period, q.queue_ticker_max_lag / 2);

    with cut as (
        insert into pgq.tick (tick_queue, tick_id, tick_time, tick_snapshot, tick_event_seq)
        select q.queue_id, nextval(q.queue_tick_seq::regclass), clock_timestamp(), txid_current_snapshot(), u.seq
        from unnest(v_queues, v_seqs) u (queue_id, seq)
        join pgq.queue q on q.queue_id = u.queue_id
        returning tick_queue, tick_id, tick_snapshot)
    select array_agg(c.tick_queue), array_agg(c.tick_id), min(c.tick_snapshot::text)
    into v_queues, v_ticks, v_cut
    from cut c;
    perform tidemill.assert_later(l::txid_snapshot, v_cut) from unnest(v_last) l;

    return query
    select q.queue_name, u.tick_id, 0::bigint, null::text
    -- Settled again: no number was given out since.
    from (select n.*, set_config('tidemill.settled_' || n.queue_id, n.tick_id::text, false) as settled
          from unnest(v_queues, v_ticks) n (queue_id, tick_id) offset 0) u
    join pgq.queue q on q.queue_id = u.queue_id
    where u.settled is not null
    order by q.queue_name;
end
$$;
