-- insert_event_source: the body of pgq.insert_event with seven arguments: it calls the function of the queue. What it
-- does not know goes to insert_event_raw, which knows all rules and says what is wrong; also the events of a queue that
-- somebody made by hand, until the next installation.
-- Callers: make_insert_event. Locks: none.
create or replace function tidemill.insert_event_source()
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_names text[];
    v_calls text[];
begin
    select array_agg(p.queue_name order by p.queue_name collate "C"),
           array_agg(format('return tidemill.insert_queue_%s(v_txid, nextval(%L),'
                            ' ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4);',
                            p.queue_id, p.event_seq) order by p.queue_name collate "C")
    into v_names, v_calls from tidemill.plain_queues() p
    where to_regproc('tidemill.insert_queue_' || p.queue_id) is not null;
    return format($body$-- Written by tidemill.make_insert_event for the queues that there are: do not edit, but replace the function.
declare
    v_txid bigint := txid_current();
begin
%s
return pgq.insert_event_raw(queue_name, null, null, null, null, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4);
end$body$, tidemill.if_tree(v_names, v_calls));
end
$$;
