-- is_leaf_node: is this database the leaf of a set? (A leaf has no copy of the queue.)
-- Callers: everybody who may read pgq_node.node_info. Locks: none.
create or replace function pgq_node.is_leaf_node(i_queue_name text)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_type text;
begin
    select n.node_type into v_type from pgq_node.node_info n where n.queue_name = i_queue_name;
    if not found then
        raise exception 'queue does not exist: %', i_queue_name;
    end if;
    return v_type = 'leaf';
end
$$;
