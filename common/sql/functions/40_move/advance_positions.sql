-- Function: tidemill.advance_positions(mover, epoch, moves)
--
--   Destination side, first in the destination's transaction: sets the positions of a group of
--   batches by compare-and-swap on equality of the whole previous mark, the source's identity and
--   epoch. Whoever changes the row moves the batch; a batch whose row did not change must not be
--   copied. In sorted order, whatever the order given, so that two movers never wait for each other.
--
-- Parameters: i_moves - [{"n", "source", "queue", "to_queue", "identity": {...}, "prev": {...},
--   "cur": {...}, "open": bool}, …]; open: no position was known, start one at prev
-- Returns: the n of those that changed
-- Errors: TM001 when the mover's lease moved on or its term ended; TM006
-- Who: tidemill_mover. Locks: the position rows, until the end of the transaction. Takes the
--   transaction id: the event table may be asked for in a later statement.
create or replace function tidemill.advance_positions(i_mover text, i_epoch int8, i_moves jsonb)
returns setof int4
language plpgsql
volatile
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_move record;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'advance_positions needs READ COMMITTED, not %', current_setting('transaction_isolation') using errcode = 'TM006';
    end if;
    perform pg_current_xact_id();
    -- A source forgets what is finished: it must not be lost here. Stronger settings stay.
    if current_setting('synchronous_commit') in ('off', 'local') then
        perform set_config('synchronous_commit', 'on', true);
    end if;
    perform from tidemill.mover_lease l
      where l.mover = i_mover and l.epoch = i_epoch and l.until > clock_timestamp();
    if not found then
        raise exception 'mover % no longer holds its lease (epoch %)', i_mover, i_epoch using errcode = 'TM001';
    end if;

    for v_move in
        select m.*, m.prev ->> 'snapshot' as prev_snapshot,
               timestamptz 'epoch' + (m.prev ->> 'time')::int8 * interval '1 microsecond' as prev_time,
               timestamptz 'epoch' + (m.cur ->> 'time')::int8 * interval '1 microsecond' as cur_time
          from jsonb_to_recordset(i_moves) m (n int4, source text, queue text, to_queue text,
                   identity jsonb, prev jsonb, cur jsonb, open bool)
         order by m.source collate "C", m.queue collate "C"
    loop
        if v_move.open then
            insert into tidemill.mover_position (source, queue, to_queue, system_identifier, database_oid, source_epoch,
                                                 tick_id, tick_time, tick_snapshot, mover_epoch)
            values (v_move.source, v_move.queue, v_move.to_queue,
                    (v_move.identity ->> 'system_identifier')::int8, (v_move.identity ->> 'database_oid')::int8,
                    (v_move.identity ->> 'epoch')::int8,
                    (v_move.prev ->> 'tick')::int8, v_move.prev_time, v_move.prev_snapshot, i_epoch)
            on conflict do nothing;
        end if;
        update tidemill.mover_position p
           set tick_id = (v_move.cur ->> 'tick')::int8, tick_time = v_move.cur_time, tick_snapshot = v_move.cur ->> 'snapshot',
               to_queue = v_move.to_queue, mover_epoch = i_epoch, moved_at = clock_timestamp()
         where p.source = v_move.source and p.queue = v_move.queue
           and p.tick_id = (v_move.prev ->> 'tick')::int8
           and p.tick_time = v_move.prev_time
           and p.tick_snapshot = v_move.prev_snapshot
           and p.system_identifier = (v_move.identity ->> 'system_identifier')::int8
           and p.database_oid = (v_move.identity ->> 'database_oid')::int8
           and p.source_epoch = (v_move.identity ->> 'epoch')::int8
           and p.mover_epoch <= i_epoch;
        if found then
            return next v_move.n;
        end if;
    end loop;
end;
$$;
