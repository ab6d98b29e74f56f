-- What requests with an idempotency key were answered: the same key again gets the first answer. Written in the
-- transaction that inserts the jobs, and by no request without a key. No reference to the queue: that would lock its row
-- for each request; of a queue that is gone the rows go by their age, like all.
create table tidemill.idempotency (
    queue_id int4        not null,
    key      text        not null,
    body     bytea       not null,                              -- the SHA-256 of what was asked
    answer   text        not null,                              -- as it was sent
    until    timestamptz not null,                              -- from then on the key may be used anew
    constraint idempotency_pkey primary key (queue_id, key),
    constraint idempotency_body check (length(body) = 32)
);
create index idempotency_until_idx on tidemill.idempotency (until);
