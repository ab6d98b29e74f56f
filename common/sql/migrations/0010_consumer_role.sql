-- Consumers that belong to a role: nobody else reads, finishes or moves them. Most have no row here.
--
-- By sub_id, which the members of a cooperative consumer share, and which is never given again: a row that outlives its
-- subscription binds nobody.
create table tidemill.consumer_role (
    sub_id   integer not null,
    role     regrole not null,
    bound_at timestamptz not null default clock_timestamp(),
    bound_by name not null default session_user,
    constraint consumer_role_pkey primary key (sub_id)
);
