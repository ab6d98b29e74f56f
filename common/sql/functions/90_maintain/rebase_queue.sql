-- rebase_queue: make one queue's log mean the same in this database as it meant where its ticks were cut. One
-- transaction; a queue that this rebase has done already is left alone. Returns how: kept, translated or done; and how
-- many events were given a new place.
-- Callers: pgq_admin (`tidemill queue rebase`), between rebase_plan and rebase_done. Locks: the queue's row, its tick
-- lock, for a job queue the fence; then all its event tables and journals exclusively, waited for five seconds at most:
-- producers wait from there to the commit.
--
-- i_positions: where movers' destinations stand in the old log: [{"tick", "time" (microseconds), "snapshot",
-- "moved": [ids of events that no tick here has seen, and that they have]}]. Such a tick may be later than all that are
-- here: then the destination knows more of the old log than we do, and the tick is written down again.
create or replace function tidemill.rebase_queue(i_queue text, i_positions jsonb, out how text, out events bigint)
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'
as $$
declare
    v_txid  constant bigint := txid_current();
    p       record;
    q       record;
    m       jsonb;
    v_sub   record;
    v_table text;
    v_last  pgq.tick;
    v_kept  boolean;
    v_marks jsonb := '[]';
begin
    select * into p from tidemill.rebase_plan();
    if not p.needed then
        raise exception 'this database needs no rebase' using errcode = 'object_not_in_prerequisite_state';
    end if;
    select queue_id, queue_ntables, queue_data_pfx, queue_event_seq, queue_tick_seq, queue_external_ticker
    into q from pgq.queue where queue_name = i_queue for update;
    if not found then
        raise exception 'no such queue: %', i_queue using errcode = 'no_data_found';
    end if;
    events := 0;
    if exists (select 1 from tidemill.rebased
               where queue_id = q.queue_id and epoch = p.epoch and server = p.server)
    then
        how := 'done';
        return;
    end if;
    perform pg_advisory_xact_lock(7465001, q.queue_id);
    perform pg_advisory_xact_lock(7465002, q.queue_id);
    for v_table in select t from tidemill.event_tables(q.queue_id) t
                   union all select j from tidemill.journal_tables(q.queue_id) j
    loop
        execute format('lock table %s in access exclusive mode', v_table);
    end loop;

    -- Later statements than the locks: they see all that producers committed, and no producer is half-way.
    select * into v_last from pgq.tick where tick_queue = q.queue_id order by tick_queue desc, tick_id desc limit 1;
    v_kept := p.own_rows;
    for m in select e from jsonb_array_elements(i_positions) e order by (e ->> 'tick')::bigint loop
        if exists (select 1 from pgq.tick t where t.tick_queue = q.queue_id and t.tick_id = (m ->> 'tick')::bigint
                     and tidemill.tick_mark(t) = m - 'moved')
        then
            null;
        elsif (m ->> 'tick')::bigint > v_last.tick_id then
            perform tidemill.assert_later(v_last.tick_snapshot, (m ->> 'snapshot')::txid_snapshot);
            v_kept := false;
        else
            raise exception 'queue %: a destination stands at tick % of another history', i_queue, m ->> 'tick'
                using errcode = 'TM005',
                      hint = 'Compare both sides, set the position in its tidemill.mover_position, and repeat.';
        end if;
        v_marks := v_marks || jsonb_build_object('from', m - 'moved', 'to', m - 'moved');
    end loop;
    insert into tidemill.rebased (queue_id, epoch, server, old_source, positions)
    select q.queue_id, p.epoch, p.server,
           jsonb_build_object('system_identifier', i.system_identifier, 'database_oid', i.database_oid::bigint, 'epoch', i.epoch),
           v_marks
    from tidemill.identity i
    on conflict on constraint rebased_pkey do update
        set server = excluded.server, old_source = excluded.old_source, positions = excluded.positions;

    if v_kept then
        how := 'kept';
    else
        how := 'translated';
        events := tidemill.translate_queue(q.queue_id, v_last, p.own_rows, i_positions, v_txid);
        update tidemill.rebased r
        set positions = (
            select coalesce(jsonb_agg(jsonb_build_object('from', e -> 'from', 'to', tidemill.tick_mark(t))), '[]')
            from jsonb_array_elements(v_marks) e
            join pgq.tick t on t.tick_queue = q.queue_id and t.tick_id = (e #>> '{from,tick}')::bigint)
        where r.queue_id = q.queue_id and r.epoch = p.epoch;
    end if;
    update tidemill.owner set epoch = epoch + 1, until = '-infinity' where queue_id = q.queue_id;

    if not q.queue_external_ticker then
        -- Ticks of a lost history are remembered elsewhere: their numbers are not used again. And the ticker shall look.
        perform setval(q.queue_tick_seq::regclass,
                       greatest(pgq.seq_getval(q.queue_tick_seq),
                                (select max(t.tick_id) from pgq.tick t where t.tick_queue = q.queue_id)) + 1000000000);
        perform nextval(q.queue_event_seq::regclass);
    end if;
end
$$;
