-- Grants of pgq_coop, set again at every install: who consumes may do so in a group.
do $grants$
begin
    revoke all on schema pgq_coop from public;
    revoke all on all functions in schema pgq_coop from public;
    if to_regrole('pgq_reader') is not null then
        grant usage on schema pgq_coop to pgq_reader;
        grant execute on all functions in schema pgq_coop to pgq_reader;
    end if;
end
$grants$;
