-- Jobs: parked jobs in the waiting room, what the database itself decided in a flush, back-off presets.

-- A type that nobody asks for waits outside the log until somebody does: due 'infinity', and in no index of what is due.
alter table tidemill.waiting
    drop constraint waiting_kind,
    add constraint waiting_kind check (kind in ('delayed', 'retry', 'leased', 'parked'));
drop index tidemill.waiting_due_idx;
create index waiting_due_idx on tidemill.waiting (due) where kind <> 'parked';
create index waiting_parked_idx on tidemill.waiting (queue_id, (coalesce(ev_type, '')), job_id) where kind = 'parked';

-- What only the database knows when a flush is written: the ids of new jobs, and which results were taken in the waiting
-- room. NULL in nearly every row, which costs nothing.
alter table tidemill.journal_template add column j_note jsonb;
do $journals$
declare
    v_table text;
begin
    for v_table in
        select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = 'tidemill' and c.relkind = 'r' and c.relname ~ '^journal_[0-9]+_[0-9]+$'
    loop
        execute format('alter table tidemill.%I add column j_note jsonb', v_table);
    end loop;
end
$journals$;

alter table tidemill.job_queue
    add column backoff text not null default 'exponential',    -- or a preset, which then needs no base and no cap
    add constraint job_queue_backoff_name check (backoff in ('exponential', 'mail'));

-- Their results have more columns now.
drop function if exists tidemill.dispatch_queues();
drop function if exists tidemill.read_journal(int4);
