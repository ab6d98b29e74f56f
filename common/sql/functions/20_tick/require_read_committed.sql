-- require_read_committed: refuse (TM006) where each statement must have a snapshot of its own: a snapshot taken before a
-- lock was waited for would be stored, or believed, after it is out of date.
-- Callers: ticker, rotation. Locks: none.
create or replace function tidemill.require_read_committed(i_what text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if pg_is_in_recovery() then
        raise exception '% works only on the primary: a standby does not know the transactions in progress', i_what
            using errcode = 'read_only_sql_transaction';
    end if;
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception '% needs isolation READ COMMITTED, this transaction is %',
            i_what, upper(current_setting('transaction_isolation'))
            using errcode = 'TM006';
    end if;
end
$$;
