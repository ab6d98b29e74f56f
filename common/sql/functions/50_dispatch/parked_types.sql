-- Function: tidemill.parked_types(queue_id)
--
--   Which types have parked jobs, and how many; and which keys, of those that are parked for the
--   limit of their key: what a new owner must know, because the journal tells it only as far as it
--   reaches.
--
-- Returns: o_key - null, or the key: such jobs are counted by it, whatever their types
-- Who: tidemill_dispatcher. Locks: none.
create or replace function tidemill.parked_types(i_queue_id int4, out o_type text, out o_key text, out o_count int8)
returns setof record
language sql
stable
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
    select coalesce(w.ev_type, ''), null::text, count(*)
      from tidemill.waiting w
     where w.queue_id = i_queue_id and w.kind = 'parked' and w.parked_key is null
     group by coalesce(w.ev_type, '')
    union all
    select '', w.parked_key, count(*)
      from tidemill.waiting w
     where w.queue_id = i_queue_id and w.parked_key is not null
     group by w.parked_key;
$$;
