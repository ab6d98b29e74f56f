-- is_clean_failover: this server became primary after a tick's commit waited for a synchronous standby, and it is one
-- that was fed by streaming and recovered to no target before the end: so every tick that anybody has seen is here.
-- Callers: require_identity, when the timeline has grown. Locks: none.
-- It trusts that who promotes, promotes a synchronous standby; a ticker that remembers a later tick still objects
-- (witness_tick). The receiver's position is known until the server is restarted.
create or replace function tidemill.is_clean_failover(i_identity tidemill.identity, i_timeline integer)
returns boolean
language sql
set search_path = pg_catalog, pg_temp
as $$
    select i_identity.synchronous and i_timeline > i_identity.timeline
       and pg_last_wal_receive_lsn() is not null
       and not exists (
           select 1 from unnest(array['', '_lsn', '_name', '_time', '_xid']) target
           where current_setting('recovery_target' || target) <> '');
$$;
