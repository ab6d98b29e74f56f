-- Function: tidemill.parse_lease(token)
--
--   Takes a lease token apart: kind-queue-epoch-number-job-put-attempt-nonce, kind 't'
--   (transactional) or 'l', numbers in decimal, the nonce as 16 hexadecimal digits. The
--   same format as Lease in common/src/lease.rs.
--
-- Returns: all NULL when it is no such token
-- Who: internal. Locks: none.
create or replace function tidemill.parse_lease(i_token text,
    out o_transactional bool, out o_queue_id int4, out o_epoch int8, out o_no int8, out o_job int8,
    out o_put int4, out o_attempt int4, out o_nonce int8)
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v text[];
begin
    if i_token !~ '^[tl](-[0-9]{1,19}){6}-[0-9a-f]{16}$' then
        return;
    end if;
    v := string_to_array(i_token, '-');
    o_transactional := v[1] = 't';
    o_queue_id := v[2]::int4;
    o_epoch    := v[3]::int8;
    o_no       := v[4]::int8;
    o_job      := v[5]::int8;
    o_put      := v[6]::int4;
    o_attempt  := v[7]::int4;
    o_nonce    := ('x' || v[8])::bit(64)::int8;
exception when data_exception then
    -- A number beyond its type: nobody issued this token.
    o_transactional := null;
end;
$$;
