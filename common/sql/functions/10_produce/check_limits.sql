-- Function: tidemill.check_limits(limits)
--
--   Looks whether these are limits of a job queue, as PUT /v1/queues/{queue} takes them.
--
-- Parameters: i_limits - {"queue": {"leased", "per_second"}, "types": {name: {…}}, "key": {…}}, any subset
-- Returns: the limits; null if there are none
-- Errors: 22023, saying what is wrong
-- Who: called by create_job_queue. Locks: none.
create or replace function tidemill.check_limits(i_limits jsonb)
returns jsonb
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_limit  record;
    v_types  jsonb := coalesce(i_limits -> 'types', '{}');
begin
    if i_limits is null or i_limits = 'null' then
        return null;
    end if;
    if jsonb_typeof(i_limits) <> 'object' or i_limits - array['queue', 'types', 'key'] <> '{}' or jsonb_typeof(v_types) <> 'object' then
        raise exception 'limits are an object of "queue", "types" and "key", types one of limits by name: %', left(i_limits::text, 200)
            using errcode = '22023';
    end if;
    if (select count(*) > 100 or bool_or(octet_length(t) not between 1 and 255) from jsonb_object_keys(v_types) t) then
        raise exception 'limits are of at most 100 types, with names of 1 to 255 bytes' using errcode = '22023';
    end if;
    for v_limit in
        select l.key as what, l.value as of from jsonb_each(i_limits - 'types') l
        union all select 'type ' || l.key, l.value from jsonb_each(v_types) l
    loop
        if jsonb_typeof(v_limit.of) <> 'object' or v_limit.of = '{}' or v_limit.of - array['leased', 'per_second'] <> '{}'
            or coalesce(jsonb_typeof(v_limit.of -> 'leased') <> 'number', false)
            or coalesce(jsonb_typeof(v_limit.of -> 'per_second') <> 'number', false)
            or coalesce((v_limit.of ->> 'leased')::numeric not between 1 and 1000000000, false)
            or coalesce((v_limit.of ->> 'leased')::numeric % 1 <> 0, false)
            or coalesce((v_limit.of ->> 'per_second')::numeric <= 0, false)
            or coalesce((v_limit.of ->> 'per_second')::numeric > 1000000, false)
        then
            raise exception 'the limit of % needs "leased", an integer of 1 to 1000000000, "per_second", a number above 0 up to 1000000, or both: %',
                v_limit.what, v_limit.of using errcode = '22023';
        end if;
    end loop;
    return case when i_limits - 'types' = '{}' and v_types = '{}' then null else i_limits end;
end;
$$;
