-- Jobs: what a job queue is, who owns it, what happened to its entries, and what is not ready.
--
-- A job is in one of three places: the log (pgq's event tables: ready), the journal (what
-- happened to entries of the log, insert only), and the waiting room (delayed, retried, or
-- leased outside the log). An entry is (job id, put): put counts how often the job was put
-- into the log, independent of attempts.

create table tidemill.job_queue (
    queue_id        int4        primary key references pgq.queue (queue_id),
    sub_id          int4        not null,                       -- subscription of 'tidemill.dispatcher'; ev_owner of re-put entries
    lease_ms        int4        not null default 60000,
    max_attempts    int4        not null default 25,
    backoff_base_ms int4        not null default 1000,          -- delay after the first failure, before jitter
    backoff_cap_ms  int4        not null default 3600000,
    created_at      timestamptz not null default now(),
    constraint job_queue_lease_ms check (lease_ms between 1000 and 86400000),
    constraint job_queue_max_attempts check (max_attempts between 1 and 1000),
    constraint job_queue_backoff check (backoff_base_ms between 1 and backoff_cap_ms)
);

-- One row per job queue: who may write its journal. The epoch only rises; the term ends by
-- database time. A row, not a session, so that ownership works through a pooler.
create table tidemill.owner (
    queue_id int4        primary key references tidemill.job_queue (queue_id) on delete cascade,
    epoch    int8        not null default 0,
    holder   uuid,                                              -- instance of the dispatcher process
    address  text,                                              -- where other dispatchers forward to
    until    timestamptz not null default '-infinity'
) with (fillfactor = 50);

-- Parent of every journal table: tidemill.journal_<queue_id>_<n> rotates together with
-- pgq.event_<queue_id>_<n>, under the same condition.
create table tidemill.journal_template (
    j_txid  int8        not null default pg_catalog.txid_current(),
    j_epoch int8        not null,
    j_seq   int8        not null,                               -- order of the flushes within the epoch
    j_at    timestamptz not null,                               -- clock_timestamp() of the flush: leases end relative to it
    j_data  bytea       not null                                -- many records; format: dispatcher/src/engine/record.rs
);

create table tidemill.waiting (
    queue_id    int4        not null,
    job_id      int8        not null,
    put         int4        not null,                           -- the put this job gets when it returns to the log
    attempt     int4        not null default 0,                 -- leases - declines so far
    kind        text        not null,
    due         timestamptz not null,                           -- run_at, end of the back-off, or end of the lease
    lease_epoch int8,
    lease_no    int8,
    lease_nonce int8,
    holder      jsonb,                                          -- {"instance","host","pid"} of the lease
    previous    jsonb,                                          -- how the last lease ended, shown to the next worker
    ev_time     timestamptz not null,
    ev_type     text,
    ev_data     text,
    ev_extra1   text,
    ev_extra2   text,
    ev_extra3   text,
    ev_extra4   text,
    constraint waiting_pkey primary key (queue_id, job_id),
    constraint waiting_kind check (kind in ('delayed', 'retry', 'leased')),
    constraint waiting_lease check ((kind = 'leased') = (lease_no is not null))
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 5000);
create index waiting_due_idx on tidemill.waiting (due);

-- Append only, pruned by age.
create table tidemill.failure (
    queue_id int4        not null,
    job_id   int8        not null,
    attempt  int4        not null,
    at       timestamptz not null default pg_catalog.clock_timestamp(),
    reason   text        not null,                              -- failed | expired | dead
    message  text        not null,
    holder   jsonb
);
create index failure_job_idx on tidemill.failure (queue_id, job_id);

create table tidemill.dead (
    queue_id  int4        not null,
    job_id    int8        not null,
    put       int4        not null,
    attempt   int4        not null,
    at        timestamptz not null default pg_catalog.clock_timestamp(),
    reason    text        not null,                             -- perm_fail | exhausted
    message   text        not null,
    ev_time   timestamptz not null,
    ev_type   text,
    ev_data   text,
    ev_extra1 text,
    ev_extra2 text,
    ev_extra3 text,
    ev_extra4 text,
    constraint dead_pkey primary key (queue_id, job_id)
);
create index dead_at_idx on tidemill.dead (queue_id, at, job_id);
