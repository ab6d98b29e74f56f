-- log_statement: what the triggers do FOR EACH STATEMENT: a truncate is an event, all else is an error.
-- Callers: jsontriga, logutriga, sqltriga, with the rights of who truncates. Locks: as insert_event.
create or replace function tidemill.log_statement(
    i_format text, i_arguments text[], i_op text, i_when text, i_table oid, i_schema text, i_name text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_options record;
begin
    if current_setting('session_replication_role') = 'local' then
        return;
    end if;
    if i_op <> 'TRUNCATE' then
        raise exception 'pgq Ins/Upd/Del trigger must be fired FOR EACH ROW';
    end if;
    v_options := tidemill.trigger_options(i_arguments, i_op);
    if v_options.o_skip and i_when = 'AFTER' then
        raise exception 'SKIP does not work in AFTER trigger.';
    end if;
    if v_options.o_deny then
        raise exception 'Table ''%.%'' to queue ''%'': change not allowed (%)', i_schema, i_name, i_arguments[0], i_op;
    end if;
    perform pgq.insert_event(
        i_arguments[0], tidemill.event_type(i_format, i_op, i_schema, i_name, tidemill.primary_key(i_table)),
        case i_format when 'json' then '{}' else '' end, i_schema || '.' || i_name, null, null, null);
end
$$;
