-- Looking at queues: a window of a queue's own, and the leases that live in the waiting room.

-- How much of the log the owner holds in memory; NULL: what its dispatcher is configured with.
alter table tidemill.job_queue
    add column window_jobs  int4,
    add column window_bytes int8,
    add constraint job_queue_window check (window_jobs between 1 and 10000000 and window_bytes between 1048576 and 68719476736);

-- For lists and counts of who holds what: as small as the number of jobs that are worked on there.
create index waiting_leased_idx on tidemill.waiting (queue_id, job_id) where kind = 'leased';

-- Their results have more columns now.
drop function if exists tidemill.dispatch_queues();
drop function if exists tidemill.queue_counts(int4);
