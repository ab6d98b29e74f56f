-- What operators told single workers, so that it outlives the dispatchers. Written by an order, read beside the hot
-- path; few rows: an instance is new at every start of a worker, and old orders are deleted by the next one.
create table tidemill.steering (
    instance uuid        not null,
    state    text        not null,                              -- told with every answer; without a row: run
    at       timestamptz not null default pg_catalog.clock_timestamp(),
    constraint steering_pkey primary key (instance),
    constraint steering_state check (state in ('quiet', 'terminate'))
);
