-- mark_birth: write the birthmark anew: from now on these rows are this database's own.
-- Callers: record_identity, rebase_done. Locks: the one row.
create or replace function tidemill.mark_birth()
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    delete from tidemill.birthmark;
    insert into tidemill.birthmark (wrote, table_oid) values (0, 0);
    -- Two steps, because a transaction inside another one has an id that only the row tells. The second row version has
    -- the same one.
    update tidemill.birthmark set wrote = xmin::text::bigint, table_oid = tableoid;
end
$$;
