-- tick_look: what a ticker would find to do in this database, and when it need look again. Reads only: an idle database
-- is looked at often and writes nothing for it.
-- Callers: tidemill_ticker. Locks: none.
--
-- i_holder, i_sleep_ms
--              this ticker is about to sleep: if a queue has a doorbell, and this is the ticker that serves, producers are
--              told so before anything is looked for. So each event is found now, or its producer rings
--
-- visible      the snapshot before anything else was read, as a number: it changes whenever a transaction with an id
--              ends, in whichever database of the server, at the moment at which others see that, and never otherwise.
--              While it is the same, nothing but time can bring something to do
-- server       when this server was started
-- serving      whose term was the last one; null: nobody's, or it was given up
-- term_ms      how long that term runs on; not positive: it is over
-- news         a queue has events without a tick, or a transaction that its last tick saw in progress has ended
-- doorbell     a queue has one
-- tick_ms, promote_ms, maintain_ms
--              when it is time for an idle queue's tick, for a job or an event that waits for its time, for maintenance
--              (a rotation or the end of one, old ticks to remove): milliseconds from now; null: nothing waits
--
-- Idle ticks are due at full multiples of nine eighths of their period, after one period at least: so the queues of all
-- databases are ticked together, and no transaction ends in between.
create or replace function tidemill.tick_look(
    i_holder uuid default null, i_sleep_ms integer default 0,
    out visible bigint, out server timestamptz, out serving uuid, out term_ms double precision, out news boolean,
    out doorbell boolean, out tick_ms double precision, out promote_ms double precision, out maintain_ms double precision)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    q          record;
    v_now      double precision := date_part('epoch', clock_timestamp());
    v_promote  timestamptz;
    v_tick     double precision;
    v_maintain double precision;
begin
    if pg_is_in_recovery() then
        raise exception 'a ticker works only on the primary' using errcode = 'read_only_sql_transaction';
    end if;
    visible := hashtextextended(pg_current_snapshot()::text, 0);
    server := pg_postmaster_start_time();

    -- Later statements: they see every transaction that had ended by then.
    select nullif(t.holder, '00000000-0000-0000-0000-000000000000'), (date_part('epoch', t.until) - v_now) * 1000
    into serving, term_ms from tidemill.ticker_term t;
    doorbell := exists (select 1 from tidemill.job_queue j where j.doorbell);
    if i_sleep_ms > 0 and doorbell and serving = i_holder then
        perform tidemill.announce_sleep(i_sleep_ms);
    end if;
    news := false;
    for q in
        select qu.queue_id, l.tick_id, l.tick_snapshot,
               not qu.queue_external_ticker and not qu.queue_ticker_paused as ticking,
               coalesce(pg_sequence_last_value(s.seq), case when s.seq is not null then 0 end)
                   is distinct from l.tick_event_seq as moved,
               date_part('epoch', l.tick_time) as ticked_at,
               date_part('epoch', greatest(qu.queue_ticker_idle_period, qu.queue_ticker_max_lag / 2)) as idle,
               case when qu.queue_switch_step2 is null then 0
                   else date_part('epoch', qu.queue_switch_time + qu.queue_rotation_period) end as rotation
        from pgq.queue qu
        cross join lateral (select to_regclass(qu.queue_event_seq) as seq) s
        left join lateral (
            select t.* from pgq.tick t
            where t.tick_queue = qu.queue_id order by t.tick_queue desc, t.tick_id desc limit 1) l on true
    loop
        v_maintain := least(v_maintain, q.rotation);
        continue when not q.ticking;
        v_tick := least(v_tick, case
            -- The first tick of a queue is followed by another one at once, as PgQ does it.
            when q.tick_id is null or q.tick_id = 1 or q.idle <= 0 then 0
            else ceil((q.ticked_at + q.idle) / (q.idle * 1.125)) * q.idle * 1.125
        end);
        if q.moved then
            news := true;
        elsif current_setting('tidemill.settled_' || q.queue_id, true) is distinct from q.tick_id::text then
            news := news or tidemill.has_straggler(q.queue_id, q.tick_id, q.tick_snapshot);
        end if;
    end loop;
    if exists (select 1 from tidemill.tick_horizon h where tidemill.prunable_below(h.queue_id) is not null) then
        v_maintain := 0;
    end if;
    select least((select min(w.due) from tidemill.waiting w), (select min(r.ev_retry_after) from pgq.retry_queue r))
    into v_promote;
    tick_ms := (v_tick - v_now) * 1000;
    promote_ms := (date_part('epoch', v_promote) - v_now) * 1000;
    maintain_ms := (v_maintain - v_now) * 1000;
end
$$;
