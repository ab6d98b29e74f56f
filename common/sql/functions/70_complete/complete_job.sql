-- Function: tidemill.complete_job(lease)
--
--   Completes one job in the worker's own transaction.
--
-- Errors, rights and locks: as tidemill.complete_jobs
create or replace function tidemill.complete_job(i_lease text)
returns void
language sql
volatile
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
    select tidemill.complete_jobs(array[i_lease]);
$$;
