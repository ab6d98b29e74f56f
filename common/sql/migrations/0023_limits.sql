-- Limits: how many jobs of a queue, a type or a key may be leased at once, and how many a second.

-- {"queue": {"leased", "per_second"}, "types": {name: {…}}, "key": {…}}; NULL: no limits.
alter table tidemill.job_queue
    add column limits jsonb,
    add constraint job_queue_limits check (jsonb_typeof(limits) = 'object');

-- The key for whose limit a job is parked: it comes back by its key then, not by its type.
alter table tidemill.waiting
    add column parked_key text,
    add constraint waiting_parked_key check (parked_key is null or kind = 'parked');
create index waiting_parked_key_idx on tidemill.waiting (queue_id, parked_key, job_id) where parked_key is not null;
-- Of the others, so that those who are called back by their type are not looked for among them.
drop index tidemill.waiting_parked_idx;
create index waiting_parked_idx on tidemill.waiting (queue_id, (coalesce(ev_type, '')), job_id)
    where kind = 'parked' and parked_key is null;

-- Their results have more columns now.
drop function if exists tidemill.dispatch_queues();
drop function if exists tidemill.parked_types(int4);
