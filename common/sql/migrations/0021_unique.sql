-- Which jobs keep a second copy of themselves out: one row for each unfinished job with a unique key. Written in the
-- transaction that inserts the job, deleted in the one that gives it its final outcome; of a job without a key it knows
-- nothing. No reference to the queue: that would lock its row for each job; drop_job_queue deletes.
create table tidemill.unique_key (
    queue_id int4 not null,
    key      text not null,
    job_id   int8 not null,
    constraint unique_key_pkey primary key (queue_id, key),
    constraint unique_key_length check (octet_length(key) between 1 and 255)
);
create index unique_key_job_idx on tidemill.unique_key (queue_id, job_id);
-- Rows come and go: vacuum by their number, not by a share of the few that are there.
alter table tidemill.unique_key set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- It learns which job is replaced.
drop function if exists tidemill.stream_jobs(int4, jsonb);
