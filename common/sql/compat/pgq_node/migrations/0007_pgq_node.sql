-- Cascaded queues: which node of which set this database is, from whom it reads, and who reads from it. Tables as in
-- PgQ, because its programs look into them.
create schema if not exists pgq_node;

-- All members of a set, the same on every node; the root sends changes through the queue.
create table pgq_node.node_location (
    queue_name    text not null,
    node_name     text not null,
    -- libpq connect string
    node_location text not null,
    -- offline: the others do not wait for it
    dead          boolean not null default false,
    constraint node_location_pkey primary key (queue_name, node_name)
);

-- The node that this database is, one row per set.
create table pgq_node.node_info (
    queue_name     text not null,
    node_type      text not null,
    node_name      text not null,
    -- the consumer that keeps this node up to date
    worker_name    text not null,
    -- leaf only: the queue into which this one is merged
    combined_queue text,
    -- settings of the worker, urlencoded
    node_attrs     text,
    constraint node_info_pkey primary key (queue_name),
    constraint node_info_queue_name_node_name_fkey foreign key (queue_name, node_name) references pgq_node.node_location,
    constraint node_info_node_type_check check (node_type in ('root', 'branch', 'leaf')),
    constraint node_info_combined_check check (node_type = 'leaf' or combined_queue is null)
);

-- Where the cascaded consumers of this database are, the worker and others.
create table pgq_node.local_state (
    queue_name    text not null,
    consumer_name text not null,
    -- whose queue it reads
    provider_node text not null,
    -- the last tick whose work is committed here
    last_tick_id  bigint not null,
    -- why the current batch failed
    cur_error     text,
    paused        boolean not null default false,
    -- the consumer has seen the last change of this row
    uptodate      boolean not null default false,
    constraint local_state_pkey primary key (queue_name, consumer_name),
    constraint local_state_queue_name_fkey foreign key (queue_name) references pgq_node.node_info,
    constraint local_state_queue_name_provider_node_fkey foreign key (queue_name, provider_node) references pgq_node.node_location
);

-- The nodes that read from this one.
create table pgq_node.subscriber_info (
    queue_name      text not null,
    subscriber_node text not null,
    worker_name     text not null,
    -- the consumer whose cursor keeps what that node and those below it still need
    watermark_name  text not null,
    constraint subscriber_info_pkey primary key (queue_name, subscriber_node),
    constraint subscriber_info_queue_name_fkey foreign key (queue_name) references pgq_node.node_info,
    constraint subscriber_info_queue_name_subscriber_node_fkey foreign key (queue_name, subscriber_node) references pgq_node.node_location,
    constraint subscriber_info_worker_name_fkey foreign key (worker_name) references pgq.consumer (co_name),
    constraint subscriber_info_watermark_name_fkey foreign key (watermark_name) references pgq.consumer (co_name)
);
