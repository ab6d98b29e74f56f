-- Grants of pgq_ext, set again at every install: whoever writes into the target also says how far it has come.
do $grants$
begin
    revoke all on schema pgq_ext from public;
    revoke all on all tables in schema pgq_ext from public;
    revoke all on all functions in schema pgq_ext from public;
    if to_regrole('pgq_writer') is not null then
        grant usage on schema pgq_ext to pgq_writer;
        grant execute on all functions in schema pgq_ext to pgq_writer;
        revoke execute on function pgq_ext.hold_consumer(text, text), pgq_ext.upgrade_schema() from pgq_writer;
    end if;
    if to_regrole('pgq_admin') is not null then
        grant usage on schema pgq_ext to pgq_admin;
        grant execute on function pgq_ext.upgrade_schema() to pgq_admin;
        grant select, insert, update, delete on all tables in schema pgq_ext to pgq_admin;
    end if;
end
$grants$;
