-- insert_queue_source: the body of the generated function of one queue, tidemill.insert_queue_<id>: an INSERT into its
-- current event table, so that a session plans it once. Null if there is no such queue.
-- Callers: make_insert_queue. Locks: none.
--
-- With a doorbell it rings after the INSERT, if the ticker sleeps: a ticker that announces its sleep looks afterwards, so it
-- finds what was inserted by those who did not see the announcement yet.
--
-- A queue that is not plain has a function too, for sessions whose insert_event still knows it as one: it leaves the
-- event to insert_event_raw, and the number that they have drawn remains unused.
create or replace function tidemill.insert_queue_source(i_queue_id integer)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_name  text := (select q.queue_name from pgq.queue q where q.queue_id = i_queue_id);
    v_table regclass := (select p.event_table from tidemill.plain_queues(i_queue_id) p);
    v_ring  text := case when exists (select 1 from tidemill.job_queue j where j.queue_id = i_queue_id and j.doorbell) then $ring$
    if tidemill.ticker_sleeps() then
        perform pg_catalog.pg_notify('tidemill_doorbell', '');
    end if;$ring$ end;
begin
    return format(case when v_table is not null then $plain$begin
    insert into %2$s (ev_id, ev_time, ev_txid, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)
    values (i_id, pg_catalog.now(), i_txid, i_type, i_data, i_extra1, i_extra2, i_extra3, i_extra4);%3$s
    return i_id;
end$plain$ when v_name is not null then $other$begin
    return pgq.insert_event_raw(%1$L, null, null, null, null, i_type, i_data, i_extra1, i_extra2, i_extra3, i_extra4);
end$other$ end, v_name, v_table, v_ring);
end
$$;
