-- What a target database remembers of the batches that were applied to it, in the transaction that applied them. Tables
-- as in PgQ, because its programs look into them.
create schema if not exists pgq_ext;

create table pgq_ext.completed_tick (
    consumer_id    text not null,
    subconsumer_id text not null default '',
    last_tick_id   bigint not null,
    constraint completed_tick_pkey primary key (consumer_id, subconsumer_id)
) with (fillfactor = 50);

create table pgq_ext.completed_batch (
    consumer_id    text not null,
    subconsumer_id text not null default '',
    last_batch_id  bigint not null,
    constraint completed_batch_pkey primary key (consumer_id, subconsumer_id)
) with (fillfactor = 50);

create table pgq_ext.partial_batch (
    consumer_id    text not null,
    subconsumer_id text not null default '',
    cur_batch_id   bigint not null,
    constraint partial_batch_pkey primary key (consumer_id, subconsumer_id)
) with (fillfactor = 50);

create table pgq_ext.completed_event (
    consumer_id    text not null,
    subconsumer_id text not null default '',
    batch_id       bigint not null,
    event_id       bigint not null,
    constraint completed_event_pkey primary key (consumer_id, subconsumer_id, batch_id, event_id)
);
