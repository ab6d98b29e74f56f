-- demote_root: a root becomes a branch of another node, in three steps, each its own transaction. 1: producers are
-- refused and the ticker leaves the queue. 2: waits for the transactions that are still writing, then cuts the last tick.
-- 3: the node reads from its new provider, from that tick on. Repeating a step is safe; promote_branch on the new root
-- comes after it has seen the last tick.
-- Callers: pgq_admin. Locks: the node's row; 1: the queue's row; 2: the queue's event tables (exclusive: readers go on),
-- then its tick lock.
-- Codes: 200; 301 not the root; 404 no such node or queue here.
create or replace function pgq_node.demote_root(
    in i_queue_name text, in i_step integer, in i_new_provider text,
    out ret_code integer, out ret_note text, out last_tick bigint)
returns record
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_node  record;
    q       record;
    v_event bigint;
begin
    select n.node_type, n.worker_name into v_node
    from pgq_node.node_info n where n.queue_name = i_queue_name for update;
    if not found then
        ret_code := 404;
        ret_note := 'Node not initialized for queue: ' || i_queue_name;
        return;
    elsif v_node.node_type <> 'root' then
        ret_code := 301;
        ret_note := 'Node not root';
        return;
    end if;
    select queue_id, queue_data_pfx, queue_tick_seq, queue_event_seq,
           queue_disable_insert and queue_external_ticker as closed
    into q from pgq.queue where queue_name = i_queue_name;
    if i_step > 1 and q.closed is not true then
        raise exception 'steps in wrong order';
    end if;

    ret_code := 200;
    case i_step
    when 1 then
        update pgq.queue set queue_disable_insert = true, queue_external_ticker = true
        where queue_name = i_queue_name;
        if found then
            ret_note := 'Step 1: Writing disabled for: ' || i_queue_name;
        else
            ret_code := 404;
            ret_note := 'Huh, no queue?: ' || i_queue_name;
        end if;
    when 2 then
        execute format('lock table %s in exclusive mode', pgq.quote_fqname(q.queue_data_pfx));
        -- A tick that was under way comes before the last one.
        perform pg_advisory_xact_lock(7465001, q.queue_id);
        last_tick := nextval(q.queue_tick_seq);
        v_event := nextval(q.queue_event_seq);
        perform pgq.ticker(i_queue_name, last_tick, now(), v_event);
        ret_note := 'Step 2: Inserted last tick: ' || i_queue_name;
    when 3 then
        last_tick := (select t.queue_top from tidemill.node_ticks(i_queue_name) t);
        update pgq_node.node_info n set node_type = 'branch' where n.queue_name = i_queue_name;
        update pgq_node.local_state s
        set provider_node = i_new_provider, last_tick_id = demote_root.last_tick, uptodate = false
        where s.queue_name = i_queue_name and s.consumer_name = v_node.worker_name;
        ret_note := 'Step 3: Demoted root to branch: ' || i_queue_name;
    else
        raise exception 'incorrect step number';
    end case;
end
$$;
