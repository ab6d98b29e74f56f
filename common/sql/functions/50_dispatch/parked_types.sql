-- Function: tidemill.parked_types(queue_id)
--
--   Which types have parked jobs, and how many: what a new owner must know, because the
--   journal tells it only as far as it reaches.
--
-- Who: tidemill_dispatcher. Locks: none.
create or replace function tidemill.parked_types(i_queue_id int4, out o_type text, out o_count int8)
returns setof record
language sql
stable
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
    select coalesce(w.ev_type, ''), count(*)
      from tidemill.waiting w
     where w.queue_id = i_queue_id and w.kind = 'parked'
     group by coalesce(w.ev_type, '');
$$;
