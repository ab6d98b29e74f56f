-- No index on what every batch changes: each update of a cursor would add to both indexes of the table, and under a
-- snapshot that somebody holds, every lookup would walk over all those entries (183 us grew to 15 ms within 7,000
-- batches). How a batch is found without it: tidemill.batch_row. The ids are still unique: they come from one sequence.
-- The real PgQ's own table stays as it is.
do $$
begin
    if exists (select 1 from tidemill.migration where version = 1 and checksum <> '') then
        alter table pgq.subscription drop constraint if exists subscription_batch_idx;
    end if;
end
$$;
