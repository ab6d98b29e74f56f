-- early_snapshot: what i_snapshot sees of the transactions below i_until, as a snapshot.
-- Callers: cut_early_ticks. Locks: none.
create or replace function tidemill.early_snapshot(i_snapshot txid_snapshot, i_until bigint)
returns txid_snapshot
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select concat_ws(':', least(txid_snapshot_xmin(i_snapshot), i_until), i_until,
                     coalesce(string_agg(x::text, ',' order by x), ''))::txid_snapshot
    from txid_snapshot_xip(i_snapshot) x where x < i_until
$$;
