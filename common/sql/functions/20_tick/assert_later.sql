-- assert_later: a newer tick's snapshot must see everything that the older one sees.
-- Callers: cut_tick, ticker. Locks: none. If it ever raises, the lock order of a tick was broken.
create or replace function tidemill.assert_later(i_old txid_snapshot, i_new txid_snapshot)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if txid_snapshot_xmax(i_new) < txid_snapshot_xmax(i_old)
        or exists (
            select 1 from txid_snapshot_xip(i_new) x
            where txid_visible_in_snapshot(x, i_old))
    then
        raise exception 'tick would go back: snapshot % after %', i_new, i_old using errcode = 'TM003';
    end if;
end
$$;
