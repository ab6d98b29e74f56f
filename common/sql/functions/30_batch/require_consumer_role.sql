-- require_consumer_role: refuse (42501) a caller who is not a member of the role that a consumer is bound to. A role
-- that was dropped has no members.
-- Callers: the functions that read or move a consumer, for one that is bound. Locks: none.
create or replace function tidemill.require_consumer_role(i_role regrole, i_sub_id integer)
returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    s record;
begin
    if pg_has_role(tidemill.caller(), i_role, 'member') or tidemill.is_admin() then
        return;
    end if;
    -- Of a group, the main consumer, whose name is the beginning of the others'.
    select q.queue_name, c.co_name into s
    from pgq.subscription sub
    join pgq.queue q on q.queue_id = sub.sub_queue
    join pgq.consumer c on c.co_id = sub.sub_consumer
    where sub.sub_id = i_sub_id order by length(c.co_name) limit 1;
    raise exception 'consumer % of queue % is bound to role %, and % is not a member of it',
        s.co_name, s.queue_name, i_role, tidemill.caller()
        using errcode = 'insufficient_privilege';
end
$$;
