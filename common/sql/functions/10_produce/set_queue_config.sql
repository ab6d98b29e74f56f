-- set_queue_config: change one setting of a queue; parameter names are the columns without `queue_`.
-- Callers: pgq_admin. Locks: the queue's row.
create or replace function pgq.set_queue_config(x_queue_name text, x_param_name text, x_param_value text)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if x_queue_name is null or x_param_name is null then
        raise exception 'Invalid NULL value';
    end if;
    if not exists (select 1 from pgq.queue where queue_name = x_queue_name) then
        raise exception 'No such event queue';
    end if;
    if x_param_name not in ('ticker_max_count', 'ticker_max_lag', 'ticker_idle_period',
                            'ticker_paused', 'rotation_period', 'external_ticker') then
        -- The s behind the name is PgQ's: its clients compare this text.
        raise exception 'cannot change parameter "%s"', x_param_name;
    end if;
    if x_param_value is null then
        raise exception 'query string argument of EXECUTE is null' using errcode = 'null_value_not_allowed';
    end if;
    execute format('update pgq.queue set %I = %L where queue_name = $1', 'queue_' || x_param_name, x_param_value)
    using x_queue_name;
    return 1;
end
$$;
