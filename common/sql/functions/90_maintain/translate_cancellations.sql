-- translate_cancellations: before an event table's transaction ids are translated, write down which single jobs the keys'
-- snapshots hit: they mean nothing afterwards. i_restored: the transactions that restored rows; null: all rows are of the
-- old history. What was inserted here since is not hit.
-- Callers: translate_queue, under its locks. Locks: none more.
create or replace function tidemill.translate_cancellations(i_queue_id integer, i_table text, i_restored bigint[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sub_id integer;
begin
    if not exists (select 1 from tidemill.cancellation c where c.queue_id = i_queue_id) then
        return;
    end if;
    select j.sub_id into v_sub_id from tidemill.job_queue j where j.queue_id = i_queue_id;
    execute format(
        'insert into tidemill.cancelling (queue_id, job_id, code, at)'
        ' select distinct on (e.ev_id) c.queue_id, e.ev_id, c.code, c.at'
        ' from only %s e join tidemill.cancellation c'
        '   on c.queue_id = $1 and txid_visible_in_snapshot(e.ev_txid, c.snapshot)'
        '  and c.cancel_key = tidemill.option_cancel_key('
        '      case when e.ev_owner = $2 then e.ev_extra1::jsonb ->> ''extra1'' else e.ev_extra1 end)'
        ' where (e.ev_owner is null or e.ev_owner = $2) and ($3 is null or e.xmin::text::bigint = any ($3))'
        '   and not exists (select 1 from tidemill.dead d where d.queue_id = $1 and d.job_id = e.ev_id)'
        ' on conflict do nothing', i_table)
    using i_queue_id, v_sub_id, i_restored;
end
$$;
