-- What the ticker remembers beside PgQ's own tables.

-- Where the stored snapshots mean something: transaction ids of another cluster, or of a copy of this database, do not
-- compare with them. One row; written by the first create_queue, compared by every tick.
create table tidemill.identity (
    only_one          boolean not null default true,
    system_identifier bigint not null,
    database_oid      oid not null,
    epoch             bigint not null,
    recorded_at       timestamptz not null default clock_timestamp(),
    constraint identity_pkey primary key (only_one),
    constraint identity_one_row check (only_one),
    constraint identity_epoch_positive check (epoch > 0)
);

-- Which ticker process serves this database, and until when by the database's clock. A row and not a session lock, so
-- that it works through a pooler and is the same on every server of a failover.
create table tidemill.ticker_term (
    only_one boolean not null default true,
    holder   uuid not null,
    epoch    bigint not null,
    until    timestamptz not null,
    constraint ticker_term_pkey primary key (only_one),
    constraint ticker_term_one_row check (only_one)
) with (fillfactor = 50);

-- Ticks below this id belong to events that were rotated out: they go in bounded portions, see tidemill.prune_ticks.
-- With three tables, the events of two whole periods are there: so are their ticks, and a consumer can go back to them.
create table tidemill.tick_horizon (
    queue_id   integer not null,
    below_tick bigint not null,
    next_below bigint not null,                 -- what below_tick becomes at the next rotation
    constraint tick_horizon_pkey primary key (queue_id)
);
