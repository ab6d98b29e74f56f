-- Function: tidemill.read_move_page(queue_id, sub_id, from_tick, to_tick, after_id, limit, bytes)
--
--   Source side: one page of an open batch, in order of event id: at most about limit events and
--   about bytes of content, at least one event. Events that share an id (a producer may give one)
--   are never torn apart by the end of a page.
--
-- Parameters: i_after_id - the last id of the page before, NULL for the first
-- Returns: the events; o_last is true on the last event of the batch (an empty batch has no rows)
-- Who: tidemill_mover. Locks: none.
create or replace function tidemill.read_move_page(i_queue_id int4, i_sub_id int4, i_from_tick int8, i_to_tick int8,
    i_after_id int8, i_limit int4, i_bytes int8,
    out o_last bool, out ev_id int8, out ev_time timestamptz, out ev_type text, out ev_data text,
    out ev_extra1 text, out ev_extra2 text, out ev_extra3 text, out ev_extra4 text)
returns setof record
language plpgsql
stable
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_limit int4 := i_limit;
begin
    loop
        return query
            with fetched as (
                select e.*,
                       count(*) over () <= v_limit as whole,
                       rank() over (order by e.ev_id) as nth,
                       max(e.ev_id) over () as max_id,
                       sum(coalesce(octet_length(e.ev_type), 0) + coalesce(octet_length(e.ev_data), 0)
                         + coalesce(octet_length(e.ev_extra1), 0) + coalesce(octet_length(e.ev_extra2), 0)
                         + coalesce(octet_length(e.ev_extra3), 0) + coalesce(octet_length(e.ev_extra4), 0))
                           over (order by e.ev_id range between unbounded preceding and current row exclude group) as before
                  from tidemill.read_events(i_queue_id, i_from_tick, i_to_tick, i_sub_id, i_after_id, v_limit + 1) e)
            select f.whole and f.ev_id = f.max_id, f.ev_id, f.ev_time, f.ev_type, f.ev_data,
                   f.ev_extra1, f.ev_extra2, f.ev_extra3, f.ev_extra4
              from fetched f
             where coalesce(f.before, 0) < i_bytes
               -- The group of the highest id may go on behind what was fetched.
               and (f.whole or f.ev_id < f.max_id)
             order by f.ev_id;
        -- Nothing, although more than the limit is there: all of it shares one id.
        exit when found or not exists (
            select from tidemill.read_events(i_queue_id, i_from_tick, i_to_tick, i_sub_id, i_after_id, 1));
        v_limit := v_limit * 2;
    end loop;
end;
$$;
