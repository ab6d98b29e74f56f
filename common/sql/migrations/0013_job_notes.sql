-- What a job's details need: which notes of the journal speak of a job, by its id. Only flushes with a result or a
-- replace have such a note, and only these are in the index; a flush of jobs that were completed without a result writes
-- what it wrote before. The journals of new queues: create_job_queue.
do $journals$
declare
    v_table text;
begin
    for v_table in
        select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = 'tidemill' and c.relkind = 'r' and c.relname ~ '^journal_[0-9]+_[0-9]+$'
    loop
        execute format('create index if not exists %I on tidemill.%I using gin ((j_note -> ''jobs'')) with (fastupdate = off) '
                       'where j_note ? ''jobs''', v_table || '_jobs_idx', v_table);
    end loop;
end
$journals$;
