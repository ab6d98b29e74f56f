-- Function: tidemill.read_ahead(queue_id, sub_id, from_tick, to_tick, after_txid, after_id, limit, bytes)
--
--   A piece of the log between two ticks, for the owner's window. By transaction id and event
--   id, not by event id alone: so each piece is found through the index at the cost of its own
--   rows, however many the range holds. What is left of a transaction that the piece before
--   ended in is read by event_piece: of a million events as cheaply as of ten. The tables are
--   not analysed, and the planner would rather read the whole range and sort it: hence the
--   settings, which leave it the index and an incremental sort, and room to put a piece
--   together in memory: with the default work_mem it would go through a file.
--
-- Parameters: i_after_txid, i_after_id - the last row of the piece before, NULL for the first;
--   i_limit - at most so many rows; i_bytes - about so many bytes of content, at least one row
-- Returns: the rows; fewer than i_limit do not mean that the range has ended, no row does
-- Errors: P0002 when a tick is gone
-- Who: tidemill_dispatcher. Locks: none beyond a reader's.
create or replace function tidemill.read_ahead(i_queue_id int4, i_sub_id int4, i_from_tick int8, i_to_tick int8,
    i_after_txid int8, i_after_id int8, i_limit int4, i_bytes int8)
returns table (ev_txid int8, ev_id int8, ev_time timestamptz, ev_owner int4, ev_retry int4, ev_type text, ev_data text,
               ev_extra1 text, ev_extra2 text, ev_extra3 text, ev_extra4 text)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set jit = off
set work_mem = '32MB'
as $$
declare
    v_rest   text;
    v_pieces text;
begin
    if i_after_txid is not null then
        v_rest := tidemill.event_piece(i_queue_id, array[format(
            'ev_txid = %s and (ev_owner is null or ev_owner = %s)', i_after_txid, i_sub_id)], i_after_id, i_limit);
    end if;
    select concat_ws(' union all ', '(' || v_rest || ')', string_agg(
               format('(%s and ev_txid > $1 order by ev_txid, ev_id limit $2)', branch), ' union all '))
      into v_pieces
      from tidemill.event_branches(i_queue_id, tidemill.tick_snapshot(i_queue_id, i_from_tick),
                                   tidemill.tick_snapshot(i_queue_id, i_to_tick), i_sub_id) branch;
    return query execute format(
        'select p.ev_txid, p.ev_id, p.ev_time, p.ev_owner, p.ev_retry, p.ev_type, p.ev_data,
                p.ev_extra1, p.ev_extra2, p.ev_extra3, p.ev_extra4
           from (select e.*, sum(coalesce(octet_length(ev_type), 0) + coalesce(octet_length(ev_data), 0)
                               + coalesce(octet_length(ev_extra1), 0) + coalesce(octet_length(ev_extra2), 0)
                               + coalesce(octet_length(ev_extra3), 0) + coalesce(octet_length(ev_extra4), 0))
                             over (order by ev_txid, ev_id rows between unbounded preceding and 1 preceding) as before
                   from (select * from (%s) u order by ev_txid, ev_id limit $2) e) p
          where coalesce(p.before, 0) < $3
          order by p.ev_txid, p.ev_id', v_pieces)
        using coalesce(i_after_txid, 0), i_limit, i_bytes;
end
$$;
