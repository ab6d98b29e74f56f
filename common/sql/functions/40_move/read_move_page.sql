-- Function: tidemill.read_move_page(queue_id, sub_id, from_tick, to_tick, after_id, limit, bytes)
--
--   Source side: one page of an open batch, in order of event id: about limit events and about
--   bytes of content, at least one event. Events that share an id (a producer may give one) are
--   never torn apart by the end of a page: read_events does not, and bytes are counted by id.
--
-- Parameters: i_after_id - the last id of the page before, NULL for the first
-- Returns: the events; o_last is true on the last event of the batch (an empty batch has no rows)
-- Who: tidemill_mover. Locks: none.
create or replace function tidemill.read_move_page(i_queue_id int4, i_sub_id int4, i_from_tick int8, i_to_tick int8,
    i_after_id int8, i_limit int4, i_bytes int8,
    out o_last bool, out ev_id int8, out ev_time timestamptz, out ev_type text, out ev_data text,
    out ev_extra1 text, out ev_extra2 text, out ev_extra3 text, out ev_extra4 text)
returns setof record
language sql
volatile
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
    with fetched as (
        select e.*,
               coalesce(octet_length(e.ev_type), 0) + coalesce(octet_length(e.ev_data), 0)
               + coalesce(octet_length(e.ev_extra1), 0) + coalesce(octet_length(e.ev_extra2), 0)
               + coalesce(octet_length(e.ev_extra3), 0) + coalesce(octet_length(e.ev_extra4), 0) as size
          from tidemill.read_events(i_queue_id, i_from_tick, i_to_tick, i_sub_id, i_after_id, i_limit) e),
    counted as (
        select f.*,
               -- Fewer than asked for: the batch ends here.
               count(*) over () < i_limit and f.ev_id = max(f.ev_id) over () as is_last,
               sum(f.size) over (order by f.ev_id) - sum(f.size) over (partition by f.ev_id) as before
          from fetched f)
    select c.is_last, c.ev_id, c.ev_time, c.ev_type, c.ev_data, c.ev_extra1, c.ev_extra2, c.ev_extra3, c.ev_extra4
      from counted c
     where c.before < i_bytes
     order by c.ev_id;
$$;
