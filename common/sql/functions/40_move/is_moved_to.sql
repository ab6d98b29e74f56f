-- Function: tidemill.is_moved_to(moved_to, destination)
--
--   Whether a destination is the one recorded for this queue.
--
-- Who: the other functions of this stage. Locks: none.
create or replace function tidemill.is_moved_to(i_to tidemill.moved_to, i_destination jsonb)
returns bool
language sql
immutable
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
    select i_to.system_identifier = (i_destination ->> 'system_identifier')::int8
       and i_to.database_oid = (i_destination ->> 'database_oid')::int8;
$$;
