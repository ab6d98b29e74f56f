-- batch_row: where the subscription with this open batch is now: its ctid, or null when there is none.
-- Callers: what reads, retries or finishes an open batch. Locks: none.
--
-- Each batch updates its row twice. Under a snapshot that somebody holds, none of the old versions goes away, and a
-- lookup that meets them all costs more with every batch. So no index is on what changes (updates are HOT, and a page's
-- versions share one index entry); the row is looked for from the index's end, where the newest page is; and the session
-- that opened the batch knows whose it is. Another session looks through the table, which is small otherwise.
create or replace function tidemill.batch_row(i_batch_id bigint)
returns tid
language plpgsql stable
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
as $$
declare
    v_note bigint[] := nullif(current_setting('tidemill.batch_' || i_batch_id % 64, true), '');
    s      record;
begin
    if v_note[1] = i_batch_id then
        select sub.ctid, sub.sub_batch into s from pgq.subscription sub
        where sub.sub_queue = v_note[2] and sub.sub_consumer between v_note[3] and v_note[3]
        order by sub.sub_consumer desc limit 1;
        if s.sub_batch = i_batch_id then
            return s.ctid;
        end if;
    end if;
    return (select sub.ctid from pgq.subscription sub where sub.sub_batch = i_batch_id);
end
$$;

-- note_batch: tell batch_row, in this session, whose batch it is. A hint: it is compared with the row.
-- Callers: next_batch, pgq_coop. Locks: none.
create or replace function tidemill.note_batch(i_batch_id bigint, i_queue_id integer, i_consumer_id integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform set_config('tidemill.batch_' || i_batch_id % 64,
                       format('{%s,%s,%s}', i_batch_id, i_queue_id, i_consumer_id), false);
end
$$;
