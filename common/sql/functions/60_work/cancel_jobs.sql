-- Function: tidemill.cancel_jobs(queue_id, at, items)
--
--   Cancels jobs by their id, or all that carry a key. Those in the waiting room that nobody works
--   on end at once. Of the others it is written down that they are to end: of each job that is
--   leased there, or between there and the log; of the log's entries, what the snapshot sees.
--
-- Parameters: i_items - array of {"job","code"} or {"key","code","since"}: a key's rows of the waiting room are
--   taken 1,000 at a time; "since" is the time of the first call then, in microseconds since 1970 UTC
-- Returns: o_answers - array, in the order given, of {"gone": how many ended, "leased": ids of those that are
--   leased in the waiting room, "others": ids of the others written down, "snapshot": of a key, "more": call
--   again}; o_ended - array of {"job","cancelled","attempt","time","type","data","extra1"}, for cancel_note
-- Who: called by journal_write only, behind the fence, after all that adds to the waiting room and before what
--   puts parked jobs back. Locks: SKIP LOCKED on the rows; a worker or the ticker is never waited for.
create or replace function tidemill.cancel_jobs(i_queue_id int4, i_at timestamptz, i_items jsonb, out o_answers jsonb, out o_ended jsonb)
language plpgsql
volatile
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    c_rows     constant int4 := 1000;
    v_item     record;
    v_snapshot txid_snapshot;
    v_jobs     int8[];
    v_gone     tidemill.waiting[];
    v_ended    int8[];
    v_leased   int8[];
    v_others   int8[];
begin
    o_answers := '[]';
    o_ended := '[]';
    for v_item in select * from jsonb_to_recordset(i_items) as i (job int8, key int8, code int4, since int8) loop
        v_snapshot := null;
        v_jobs := array[v_item.job];
        if v_item.key is not null then
            -- The snapshot and what it sees, in one statement: a job that is put into the log meanwhile is in one of both.
            select txid_current_snapshot(), array(
                       select w.job_id from tidemill.waiting w
                        where w.queue_id = i_queue_id and w.cancel_key = v_item.key
                          and (v_item.since is null or not exists (
                               select 1 from tidemill.cancelling c
                                where c.queue_id = i_queue_id and c.job_id = w.job_id
                                  and c.at >= 'epoch'::timestamptz + v_item.since * interval '1 microsecond'))
                        order by w.job_id limit c_rows)
              into v_snapshot, v_jobs;
            insert into tidemill.cancellation as c (queue_id, cancel_key, code, snapshot, at)
            values (i_queue_id, v_item.key, v_item.code, v_snapshot, i_at)
            on conflict on constraint cancellation_pkey do update
                set code = excluded.code, snapshot = excluded.snapshot, at = excluded.at;
        end if;
        with free as materialized (
            select w.job_id from tidemill.waiting w
             where w.queue_id = i_queue_id and w.job_id = any (v_jobs) and (w.kind <> 'leased' or w.due <= i_at)
               for update skip locked
        ), gone as (
            delete from tidemill.waiting w using free
             where w.queue_id = i_queue_id and w.job_id = free.job_id
            returning w as entry
        )
        select array_agg(gone.entry order by (gone.entry).job_id), coalesce(array_agg((gone.entry).job_id), '{}')
          into v_gone, v_ended from gone;
        v_leased := array(select w.job_id from tidemill.waiting w
                           where w.queue_id = i_queue_id and w.job_id = any (v_jobs) and w.kind = 'leased' and w.due > i_at
                           order by w.job_id);
        -- A dead letter stays one: who redrives it means it.
        v_others := array(select j from unnest(v_jobs) j
                           where j <> all (v_ended) and j <> all (v_leased)
                             and not exists (select 1 from tidemill.dead d where d.queue_id = i_queue_id and d.job_id = j)
                           order by j);
        insert into tidemill.cancelling as c (queue_id, job_id, code, at)
        select i_queue_id, j, v_item.code, i_at from unnest(v_leased || v_others) j
        on conflict on constraint cancelling_pkey do update
            set code = excluded.code, at = excluded.at, unseen = null;
        if v_gone is not null then
            delete from tidemill.cancelling c where c.queue_id = i_queue_id and c.job_id = any (v_ended);
            if exists (select 1 from unnest(v_gone) w where w.ev_extra1 like '%"unique"%') then
                perform tidemill.unique_release(i_queue_id, v_ended);
            end if;
            o_ended := o_ended || (select jsonb_agg(tidemill.cancelled_details(w, v_item.code)) from unnest(v_gone) w);
        end if;
        o_answers := o_answers || jsonb_build_array(jsonb_strip_nulls(jsonb_build_object(
            'gone', cardinality(v_ended), 'leased', to_jsonb(v_leased), 'others', to_jsonb(v_others),
            'snapshot', v_snapshot::text, 'more', v_item.key is not null and cardinality(v_jobs) = c_rows)));
    end loop;
end;
$$;
