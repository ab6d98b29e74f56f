-- full_xid: the 64 bits of a transaction id that a row's system column shows 32 bits of.
-- Callers: the rebase. Locks: none. For ids less than 2^32 back: a table has no others, they are frozen in time.
create or replace function tidemill.full_xid(i_xid bigint, i_now bigint)
returns bigint
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select case when (i_now & -4294967296) + i_xid > i_now
                then (i_now & -4294967296) + i_xid - 4294967296
                else (i_now & -4294967296) + i_xid end;
$$;
