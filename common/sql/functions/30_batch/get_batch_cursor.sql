-- get_batch_cursor: read an open batch in portions: declares a cursor with this name, in the caller's transaction, and
-- returns the first i_quick_limit events; the caller fetches the rest and closes it. Any null of the first three: no rows.
-- Callers: pgq_reader. Locks: none beyond a reader's.
--
-- i_extra_where is SQL text, as in PgQ. It runs with the rights of the caller, who could send it himself.
create or replace function pgq.get_batch_cursor(
    in i_batch_id bigint, in i_cursor_name text, in i_quick_limit integer, in i_extra_where text,
    out ev_id bigint, out ev_time timestamptz, out ev_txid bigint, out ev_retry integer,
    out ev_type text, out ev_data text, out ev_extra1 text, out ev_extra2 text, out ev_extra3 text, out ev_extra4 text)
returns setof record
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    v_sql text;
begin
    if i_batch_id is null or i_cursor_name is null or i_quick_limit is null then
        return;
    end if;
    v_sql := pgq.batch_event_sql(i_batch_id);
    if i_extra_where is not null then
        v_sql := format('select * from (%s) batch_event where %s order by 1', v_sql, i_extra_where);
    end if;
    execute format('declare %I no scroll cursor for %s', i_cursor_name, v_sql);
    if i_quick_limit > 0 then
        return query execute format('fetch %s from %I', i_quick_limit, i_cursor_name);
    end if;
end
$$;

create or replace function pgq.get_batch_cursor(
    in i_batch_id bigint, in i_cursor_name text, in i_quick_limit integer,
    out ev_id bigint, out ev_time timestamptz, out ev_txid bigint, out ev_retry integer,
    out ev_type text, out ev_data text, out ev_extra1 text, out ev_extra2 text, out ev_extra3 text, out ev_extra4 text)
returns setof record
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    return query select * from pgq.get_batch_cursor(i_batch_id, i_cursor_name, i_quick_limit, null);
end
$$;
