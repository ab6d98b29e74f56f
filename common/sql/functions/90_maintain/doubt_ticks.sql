-- doubt_ticks: refuse everything (NeedsRebase) from now on, because an operator knows what the server cannot: its disks
-- were set back to an older state, so ticks that others have seen are lost.
-- Callers: pgq_admin (`tidemill queue rebase --force`). Locks: the identity row.
create or replace function tidemill.doubt_ticks()
returns void
language sql security definer
set search_path = pg_catalog, pg_temp
as $$
    update tidemill.identity set refused = 'an operator says that ticks were lost' where refused is null;
$$;
