-- maint_rotate_tables_step1, _step2: PgQ's names for rotation; the reason for a skipped one is not told here, see
-- tidemill.rotate. Step 2 must run in a later transaction than step 1: without it no queue rotates again.
-- Callers: pgq_admin, tidemill_ticker. Locks: see tidemill.rotate; step 2 the rows of the queues that wait for it.
create or replace function pgq.maint_rotate_tables_step1(i_queue_name text)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (select 1 from pgq.queue where queue_name = i_queue_name) then
        perform tidemill.rotate(i_queue_name);
    end if;
    return 0;
end
$$;

create or replace function pgq.maint_rotate_tables_step2()
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update pgq.queue set queue_switch_step2 = txid_current()
    where queue_id in (
        select queue_id from pgq.queue where queue_switch_step2 is null order by queue_id for update skip locked);
    return 0;
end
$$;
