-- Cancelling: what a cancellation still has to do when it is answered. Nearly always empty.

-- Jobs are found by the key that they carry: NULL, and in no index, for all that carry none.
alter table tidemill.waiting add column cancel_key int8;
create index waiting_cancel_idx on tidemill.waiting (queue_id, cancel_key, job_id) where cancel_key is not null;

-- Whoever reads an entry with this key from the log cancels it, if the snapshot sees the transaction that wrote it: it
-- existed when the cancellation was asked for. Goes when the low-water mark has passed the snapshot.
create table tidemill.cancellation (
    queue_id   int4          not null references tidemill.job_queue (queue_id) on delete cascade,
    cancel_key int8          not null,
    code       int4          not null,                          -- what running handlers hear
    snapshot   txid_snapshot not null,
    at         timestamptz   not null,
    constraint cancellation_pkey primary key (queue_id, cancel_key),
    constraint cancellation_code check (code <> 0)
);

-- Single jobs that end as cancelled as soon as nobody works on them: those that were cancelled by their id, that were
-- leased, or on their way between the waiting room and the log. Goes with the job.
create table tidemill.cancelling (
    queue_id int4        not null references tidemill.job_queue (queue_id) on delete cascade,
    job_id   int8        not null,
    code     int4        not null,
    at       timestamptz not null,
    unseen   int8,                                              -- a transaction id: what put it into the log since is below it
    constraint cancelling_pkey primary key (queue_id, job_id),
    constraint cancelling_code check (code <> 0)
);
