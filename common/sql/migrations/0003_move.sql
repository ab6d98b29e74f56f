-- Moving: how far each source queue has come (in the destination), where each moved event came
-- from (in the destination), and to which destination a queue is moved (in the source).
--
-- Every database has all of these tables; which ones are used depends on the side it is on.

-- Destination. How far a source queue has come. Committed together with the events, by
-- compare-and-swap on the whole previous mark: tick ids alone are issued again after a failover,
-- so a mark is (tick id, tick time, tick snapshot). This is the one row updated per batch: room
-- for HOT updates, and no index on a column that changes.
create table tidemill.mover_position (
    source            text        not null,             -- name of the source database in the mover's settings
    queue             text        not null,             -- queue in the source
    to_queue          text        not null,             -- queue here, as of the last batch
    system_identifier int8        not null,             -- the source's identity: server,
    database_oid      int8        not null,             -- database,
    source_epoch      int8        not null,             -- and epoch of its ticks (tidemill.identity)
    tick_id           int8        not null,
    tick_time         timestamptz not null,
    tick_snapshot     text        not null,
    mover_epoch       int8        not null,             -- lease epoch of the mover that wrote last; only rises
    moved_at          timestamptz not null default pg_catalog.clock_timestamp(),
    constraint mover_position_pkey primary key (source, queue),
    -- A source that was renamed in the settings must not start a second position.
    constraint mover_position_identity_key unique (system_identifier, database_oid, queue)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 2000);

-- Destination. Where events came from: event first_id + i of queue_id is source event
-- source_ids[i + 1]. One row per moved source batch and page; one more wherever another
-- producer took an id in the middle. Append only, pruned by age.
create table tidemill.moved (
    queue_id     int4        not null,                  -- queue here
    first_id     int8        not null,
    source       text        not null,
    queue        text        not null,                  -- queue in the source
    source_epoch int8        not null,
    from_tick    int8        not null,
    to_tick      int8        not null,
    source_ids   int8[]      not null,
    moved_at     timestamptz not null default pg_catalog.clock_timestamp(),
    constraint moved_pkey primary key (queue_id, first_id)
);
create index moved_at_idx on tidemill.moved using brin (moved_at);

-- Destination. One mover works at a time; the others stand by. A row, not a session, so that it
-- works through a pooler. The epoch rises with every change of hands.
create table tidemill.mover_lease (
    mover  text        not null,                        -- the mover's consumer name
    epoch  int8        not null,
    holder uuid        not null,                        -- instance of the mover process
    until  timestamptz not null,
    constraint mover_lease_pkey primary key (mover)
) with (fillfactor = 50);

-- Source. The one destination a queue is moved to: a clone of the destination, started with the
-- same settings, is refused instead of taking or rewinding what belongs to the original.
create table tidemill.moved_to (
    queue_id          int4        not null references pgq.queue (queue_id) on delete cascade,
    consumer          text        not null,
    system_identifier int8        not null,
    database_oid      int8        not null,
    recorded_at       timestamptz not null default pg_catalog.now(),
    started_at        timestamptz,                      -- first batch finished: from now on the destination must know a position
    constraint moved_to_pkey primary key (queue_id, consumer)
);
