-- Function: tidemill.job_outcome(queue_id, job_id)
--
--   What a job that is done left in the journal: the result its worker handed in, or the jobs
--   that replaced it, the first 1,000 of them. Kept as long as the journal's table.
--
-- Returns: null if neither; otherwise {"result": text} or {"children": [{"queue", "id"}, ...]}
-- Who: called by job_details only. Locks: none. Reads by the index on the notes' job ids only.
create or replace function tidemill.job_outcome(i_queue_id int4, i_job_id int8)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_sql     text;
    v_note    jsonb;
    v_details jsonb;
begin
    select string_agg(format('select j_note from %s where j_note ? ''jobs'' and j_note -> ''jobs'' ? $1', t), ' union all ')
      into v_sql from tidemill.journal_tables(i_queue_id) t;
    if v_sql is null then
        return null;            -- no job queue
    end if;
    execute v_sql || ' limit 1' into v_note using i_job_id::text;
    v_details := v_note -> 'details' -> i_job_id::text;
    if v_details is null or not v_details ? 'ids' then
        return v_details;
    end if;
    return (select jsonb_build_object('children', coalesce(jsonb_agg(jsonb_build_object(
                       'queue', coalesce(v_details -> 'queues' ->> (c.n::int4 - 1), q.queue_name), 'id', c.id) order by c.n)
                       filter (where c.id is not null), '[]'))
              from pgq.queue q
              left join jsonb_array_elements_text(v_note #> array(select jsonb_array_elements_text(v_details -> 'ids')))
                        with ordinality as c (id, n) on c.n <= 1000
             where q.queue_id = i_queue_id);
end;
$$;
