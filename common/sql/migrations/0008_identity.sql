-- What tells a server that went back in time, or another copy of the data, from the one that cut the ticks; and what a
-- rebase did.

alter table tidemill.identity
    add column timeline    integer,                             -- of the server's WAL: grows at every promotion and recovery from an archive
    add column synchronous boolean not null default false,      -- the ticks' commits waited for a standby
    add column refused     text;                                -- a tick is known to be lost: why, until a rebase

-- Are the rows of this database the ones that were written here, or did a restore write them anew? The one row knows
-- the transaction that wrote it, and its table; a copy of the files keeps both, a dump keeps neither.
create table tidemill.birthmark (
    only_one  boolean not null default true,
    wrote     bigint not null,                                  -- the row's own xmin
    table_oid oid not null,
    constraint birthmark_pkey primary key (only_one),
    constraint birthmark_one_row check (only_one)
);

-- What was done to each queue by the rebase that led to this epoch. A rebase that was interrupted skips what it has
-- done; `positions` are the places where movers' destinations stand, in the old log and in this one.
create table tidemill.rebased (
    queue_id   integer not null,
    epoch      bigint not null,
    server     text not null,                                   -- where it was done: system/database/timeline
    old_source jsonb not null,                                  -- {"system_identifier","database_oid","epoch"} of the old log
    positions  jsonb not null,                                  -- [{"from": {"tick","time","snapshot"}, "to": {…}}]
    at         timestamptz not null default clock_timestamp(),
    constraint rebased_pkey primary key (queue_id, epoch)
);

-- A database that has ticks already, and is still the one that they were cut in.
update tidemill.identity i
set timeline = ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::integer
from pg_control_system() c, pg_database d
where d.datname = current_database() and (i.system_identifier, i.database_oid) = (c.system_identifier, d.oid);
insert into tidemill.birthmark (wrote, table_oid) select 0, 0 from tidemill.identity where timeline is not null;
update tidemill.birthmark set wrote = xmin::text::bigint, table_oid = tableoid;
