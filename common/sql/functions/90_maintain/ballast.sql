-- drop_ballast, keep_ballast: a table of one megabyte in each tablespace that holds event tables. TRUNCATE needs room
-- for the new files of an empty table: in a full tablespace a rotation fails, and with it the only thing that would make
-- room. Then the ballast goes first. How many tables were dropped, or made.
-- Callers: tidemill_ticker. Locks: the ballast's own tables. keep_ballast leaves it when there is no room (again).
create or replace function tidemill.drop_ballast()
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_table text;
    v_count integer := 0;
begin
    for v_table in
        select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = 'tidemill' and c.relname ~ '^ballast_[0-9]+$' and c.relkind = 'r'
    loop
        execute format('drop table %s', v_table);
        v_count := v_count + 1;
    end loop;
    return v_count;
end
$$;

create or replace function tidemill.keep_ballast()
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_space record;
    v_table text;
    v_count integer := 0;
begin
    for v_space in
        select distinct s.oid, s.spcname
        from pg_inherits q
        join pg_inherits i on i.inhparent = q.inhrelid
        join pg_class c on c.oid = i.inhrelid
        join pg_database d on d.datname = current_database()
        join pg_tablespace s on s.oid = coalesce(nullif(c.reltablespace, 0), d.dattablespace)
        where q.inhparent = 'pgq.event_template'::regclass
    loop
        v_table := format('tidemill.ballast_%s', v_space.oid);
        -- After a crash an unlogged table is empty.
        continue when pg_relation_size(to_regclass(v_table)) > 1000000;
        begin
            execute format('drop table if exists %s', v_table);
            -- Not in the write-ahead log, not compressed, one row a page: a megabyte on this disk and nowhere else.
            execute format('create unlogged table %s (filler text) with (autovacuum_enabled = off) tablespace %I',
                           v_table, v_space.spcname);
            execute format('alter table %s alter column filler set storage plain', v_table);
            execute format('insert into %s select repeat(''.'', 8000) from generate_series(1, 128)', v_table);
            v_count := v_count + 1;
        exception when disk_full then
            null;
        end;
    end loop;
    return v_count;
end
$$;
