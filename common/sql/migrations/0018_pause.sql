-- Pausing: what of a job queue is not handed out for now. Nearly always empty.
create table tidemill.paused (
    queue_id int4        not null references tidemill.job_queue (queue_id) on delete cascade,
    kind     text        not null,                              -- the whole queue, a job type, or a key
    name     text        not null,                              -- of the type or key
    at       timestamptz not null default pg_catalog.clock_timestamp(),
    constraint paused_pkey primary key (queue_id, kind, name),
    constraint paused_kind check (kind in ('queue', 'type', 'key')),
    constraint paused_name check ((kind = 'queue') = (name = ''))
);

-- Rises with every change: so the later of two readings is known.
alter table tidemill.job_queue add column pause_no int8 not null default 0;

-- Its result has more columns now.
drop function if exists tidemill.dispatch_queues();
