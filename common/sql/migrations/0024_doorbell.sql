-- The doorbell: a producer rings only while the ticker has announced that it sleeps, and until when.
alter table tidemill.job_queue add column doorbell bool not null default false;

-- Milliseconds since 1970; 0: awake. A sequence is changed in place, so a snapshot that somebody holds makes no chain of
-- versions that every producer would walk, and at once, not when a transaction ends. Without WAL where that is possible:
-- then a change takes no transaction id either, which would wake the tickers of all databases of the server.
do $doorbell$
begin
    execute format('create %s sequence tidemill.doorbell minvalue 0 start 0',
                   case when current_setting('server_version_num')::integer >= 150000 then 'unlogged' end);
end
$doorbell$;

-- It is told whether the ticker is about to sleep. And settings have more columns.
drop function if exists tidemill.tick_look();
drop function if exists tidemill.dispatch_queues();
