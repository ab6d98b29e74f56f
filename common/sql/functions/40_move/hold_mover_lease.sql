-- Function: tidemill.hold_mover_lease(mover, holder, term_ms)
--
--   Destination side: takes the mover's lease when it is free, renews it when the holder has it,
--   and otherwise tells who has it. The epoch rises with every change of hands.
--
-- Returns: o_held; o_epoch; o_holder; o_left_ms until the term ends (by this database's clock);
--          o_destination - {"system_identifier","database_oid"} of this database
-- Who: tidemill_mover. Locks: the lease row.
create or replace function tidemill.hold_mover_lease(i_mover text, i_holder uuid, i_term_ms int4,
    out o_held bool, out o_epoch int8, out o_holder uuid, out o_left_ms int8, out o_destination jsonb)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pgq, tidemill, pg_temp
as $$
declare
    v_until timestamptz;
begin
    insert into tidemill.mover_lease as l (mover, epoch, holder, until)
    values (i_mover, 1, i_holder, clock_timestamp() + i_term_ms * interval '1 ms')
    on conflict (mover) do update
       set epoch = l.epoch + (l.holder <> i_holder)::int4,
           holder = i_holder,
           until = clock_timestamp() + i_term_ms * interval '1 ms'
     where l.holder = i_holder or l.until < clock_timestamp()
           -- A clock that was set back must not leave a term that never ends.
        or l.until > clock_timestamp() + interval '1 hour';
    select l.holder = i_holder, l.epoch, l.holder, l.until into o_held, o_epoch, o_holder, v_until
      from tidemill.mover_lease l where l.mover = i_mover;
    o_left_ms := greatest(0, extract(epoch from v_until - clock_timestamp()) * 1000)::int8;
    o_destination := jsonb_build_object(
        'system_identifier', (select c.system_identifier from pg_control_system() c),
        'database_oid', (select d.oid::int8 from pg_database d where d.datname = current_database()));
end;
$$;
