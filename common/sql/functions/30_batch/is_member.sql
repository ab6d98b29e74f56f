-- is_member: is this subscription a member of a cooperative consumer? Members share the main consumer's sub_id, and its
-- name and a dot begin theirs. A member's cursor is null: the group's is the main consumer's.
-- Callers: finish_batch, pgq_coop. Locks: none.
create or replace function tidemill.is_member(i_queue_id integer, i_sub_id integer, i_consumer_id integer)
returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_name text := (select c.co_name from pgq.consumer c where c.co_id = i_consumer_id);
begin
    -- Most have no dot in their name, and a look at all subscriptions of the queue is dear under an old snapshot.
    return strpos(v_name, '.') > 0 and exists (
        select 1
        from pgq.subscription main
        join pgq.consumer mc on mc.co_id = main.sub_consumer
        where main.sub_queue = i_queue_id and main.sub_id = i_sub_id and main.sub_consumer <> i_consumer_id
          and starts_with(v_name, mc.co_name || '.'));
end
$$;
