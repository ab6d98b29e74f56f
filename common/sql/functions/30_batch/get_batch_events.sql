-- get_batch_events: all events of an open batch, by ev_id. It may be empty, and may be called again.
-- Callers: pgq_reader. Locks: none beyond a reader's. Reads by index only, see tidemill.read_events.
create or replace function pgq.get_batch_events(
    in x_batch_id bigint,
    out ev_id bigint, out ev_time timestamptz, out ev_txid bigint, out ev_retry integer,
    out ev_type text, out ev_data text, out ev_extra1 text, out ev_extra2 text, out ev_extra3 text, out ev_extra4 text)
returns setof record
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
begin
    return query execute pgq.batch_event_sql(x_batch_id);
end
$$;
