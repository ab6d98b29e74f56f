-- get_queue_locations: all nodes of a set that are known here.
-- Callers: pgq_reader, pgq_writer, pgq_admin. Locks: none.
create or replace function pgq_node.get_queue_locations(
    in i_queue_name text, out node_name text, out node_location text, out dead boolean)
returns setof record
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select l.node_name, l.node_location, l.dead from pgq_node.node_location l
    where l.queue_name = i_queue_name order by l.node_name;
end
$$;
