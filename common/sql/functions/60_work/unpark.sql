-- Function: tidemill.unpark(queue_id, items)
--
--   Puts parked jobs back into the log, oldest first: somebody asks for their type, or the limit of
--   their key lets them through again.
--
-- Parameters: i_items - array of {"type","limit","without"} or {"key","limit"}; an absent type is '';
--   without: jobs with these keys stay; key: those parked for its limit, which come back in no other way
-- Returns: array, in the order given, of how many were put into the log; fewer than the limit: no
--          more are parked
-- Who: called by journal_write only, behind the fence. Locks: the rows it deletes, which nobody else touches.
create or replace function tidemill.unpark(i_queue_id int4, i_items jsonb)
returns jsonb
language plpgsql
volatile
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_item   record;
    v_rows   tidemill.waiting[];
    v_counts jsonb := '[]';
    v_oldest int8[];
begin
    for v_item in select * from jsonb_to_recordset(i_items) as i (type text, key text, "limit" int4, without jsonb) loop
        if v_item.key is not null then
            select array_agg(o.job_id) into v_oldest
              from (select w.job_id from tidemill.waiting w
                     where w.queue_id = i_queue_id and w.parked_key = v_item.key
                     order by w.job_id limit v_item."limit") o;
        else
            select array_agg(o.job_id) into v_oldest
              from (select w.job_id from tidemill.waiting w
                     where w.queue_id = i_queue_id and w.kind = 'parked' and w.parked_key is null
                       and coalesce(w.ev_type, '') = coalesce(v_item.type, '')
                       and (v_item.without is null or not v_item.without ? coalesce(tidemill.option_text(w.ev_extra1, 'key'), ''))
                     order by w.job_id limit v_item."limit") o;
        end if;
        with gone as (
            delete from tidemill.waiting w
             where w.queue_id = i_queue_id and w.job_id = any (v_oldest) and w.kind = 'parked'
            returning w as entry
        )
        select array_agg(gone.entry) into v_rows from gone;
        if v_rows is not null then
            perform tidemill.put_back(v_rows);
        end if;
        v_counts := v_counts || to_jsonb(coalesce(array_length(v_rows, 1), 0));
    end loop;
    return v_counts;
end;
$$;
