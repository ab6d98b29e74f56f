-- Roles and grants, set again at every install. A role that cannot be made is tolerated: the grants skip what is not
-- there, and `tidemill schema print` shows a DBA these statements. Nothing here is granted to PUBLIC but what PgQ's
-- own clients need: names, ticks and cursors, never an event.

do $roles$
declare
    v_role   text;
    v_member text[];
begin
    if current_setting('tidemill.no_roles', true) = 'on' then
        return;
    end if;
    foreach v_role in array array[
        'pgq_reader', 'pgq_writer', 'pgq_admin', 'tidemill_producer', 'tidemill_worker', 'tidemill_ticker',
        'tidemill_mover', 'tidemill_dispatcher', 'tidemill_monitor']
    loop
        begin
            if not exists (select 1 from pg_roles where rolname = v_role) then
                execute format('create role %I nologin', v_role);
            end if;
        exception when others then
            -- Not allowed, or 256 databases install at once and another one was first.
            if not exists (select 1 from pg_roles where rolname = v_role) then
                raise notice 'role % was not made: %', v_role, sqlerrm;
            end if;
        end;
    end loop;
    foreach v_member slice 1 in array array[
        ['pgq_reader', 'pgq_admin'], ['pgq_writer', 'pgq_admin'], ['pgq_writer', 'tidemill_producer'],
        ['pgq_reader', 'tidemill_mover'], ['pgq_reader', 'tidemill_dispatcher']]
    loop
        begin
            if not pg_has_role(v_member[2], v_member[1], 'member') then
                execute format('grant %I to %I', v_member[1], v_member[2]);
            end if;
        exception when others then
            raise notice 'role % is not a member of %: %', v_member[2], v_member[1], sqlerrm;
        end;
    end loop;
end
$roles$;

do $grants$
declare
    v_schema text;
    g        record;
    f        record;
begin
    -- In a database with the real PgQ its own grants stay as they are.
    foreach v_schema in array case when tidemill.owns_pgq() then array['pgq', 'tidemill'] else array['tidemill'] end
    loop
        execute format('revoke all on schema %I from public', v_schema);
        execute format('revoke all on all tables in schema %I from public', v_schema);
        execute format('revoke all on all functions in schema %I from public', v_schema);
    end loop;
    if tidemill.owns_pgq() then
        grant usage on schema pgq to public;
        grant select on pgq.queue, pgq.consumer, pgq.tick, pgq.subscription to public;
        -- The sequences of the queues are read by get_queue_info with the caller's own rights.
        for f in
            select p.oid::regprocedure as signature from pg_proc p join pg_namespace n on n.oid = p.pronamespace
            where n.nspname = 'pgq'
              and p.proname in ('seq_getval', 'get_queue_info', 'get_consumer_info', 'quote_fqname', 'version')
        loop
            execute format('grant execute on function %s to public', f.signature);
        end loop;
    end if;

    for g in
        select r.role, r.schema, r.functions
        from (values
            ('pgq_reader', 'pgq', '{batch_event_sql,batch_event_tables,find_tick_helper,register_consumer,
                register_consumer_at,unregister_consumer,next_batch,next_batch_info,next_batch_custom,get_batch_events,
                get_batch_info,get_batch_cursor,event_retry,batch_retry,force_tick,finish_batch}'::text[]),
            ('pgq_reader', 'tidemill', '{read_events,event_source,event_branches,event_conditions,event_tables,tick_snapshot,
                batch_row,require_identity,bind_consumer,unbind_consumer,require_consumer_role,caller,is_admin}'),
            ('pgq_writer', 'pgq', '{insert_event,current_event_table,jsontriga,logutriga,sqltriga}'),
            ('pgq_writer', 'tidemill', '{insert_events,ring_doorbell}'),
            -- What the triggers are made of runs with the rights of who changes the table, and gives none.
            ('pgq_writer', 'tidemill', '{log_row,log_statement,trigger_options,in_list,primary_key,row_values,
                generated_columns,with_members,changed_columns,is_known_by_text,base_type,changes_to_log,event_type,
                json_row,url_row,urlencode,sql_insert,sql_update,sql_where,override,bind_columns,leading_comment,evaluate}'),
            ('pgq_admin', 'pgq', '{*}'),
            ('pgq_admin', 'tidemill', '{require_identity,record_identity,require_read_committed,rotate,event_tables}'),
            ('tidemill_producer', 'tidemill', '{insert_job,insert_jobs,insert_unique_jobs,insert_events,ring_doorbell}'),
            ('tidemill_worker', 'tidemill', '{complete_job,complete_jobs}'),
            ('tidemill_ticker', 'tidemill', '{tick_look,tick_pass,tick_status,rotate,promote_due,hold_ticker,
                release_ticker,confirm_ticks,ticker_pass,ticker_due,ticker_rotate,ticker_rotated,ticker_forget,witness_tick,maintain_tasks,
                rotation_obstacles,operations,drop_ballast,keep_ballast}'),
            ('tidemill_ticker', 'pgq', '{maint_retry_events,maint_rotate_tables_step1,maint_rotate_tables_step2}'),
            ('tidemill_mover', 'tidemill', '{move_news,next_move,read_move_page,finish_moved,reposition_move,hold_mover_lease,
                release_mover_lease,move_positions,advance_positions,move_target,prune_moved,event_origin}'),
            ('pgq_admin', 'tidemill', '{create_job_queue,pause_queue,dispatch_paused,free_unique_key,redrive_dead,purge_dead,doubt_ticks,rebase_plan,rebase_queue,rebase_done,
                rebase_doubtful,rebased_marks,source_positions,moved_among,rebase_position}'),
            ('tidemill_dispatcher', 'tidemill', '{dispatch_queues,owner_take,owner_renew,owner_release,owner_evict,read_journal,
                read_range,read_ahead,read_cancellations,has_origins,read_origins,parked_types,journal_write,finish_stream,stream_jobs,create_job_queue,pause_queue,dispatch_paused,insert_jobs,insert_unique_jobs,first_answer,keep_answer,queue_counts,job_details,job_failures,job_origin,
                list_dead,list_waiting,list_leased,waiting_leases,redrive_dead,purge_dead,steer_worker,steered_workers}'),
            ('tidemill_monitor', 'tidemill', '{tick_status,dispatch_paused,rotation_obstacles,event_origin,queue_counts,job_details,job_failures,job_origin,
                list_dead,list_waiting,list_leased,waiting_leases,steered_workers}')
        ) r (role, schema, functions)
        where to_regrole(r.role) is not null and (r.schema <> 'pgq' or tidemill.owns_pgq())
    loop
        execute format('grant usage on schema %I to %I', g.schema, g.role);
        for f in
            select p.oid::regprocedure as signature from pg_proc p join pg_namespace n on n.oid = p.pronamespace
            where n.nspname = g.schema and (g.functions = '{*}' or p.proname = any (g.functions))
        loop
            execute format('grant execute on function %s to %I', f.signature, g.role);
        end loop;
    end loop;

    -- Every service compares its version with the schema's.
    for g in
        select rolname as role from pg_roles
        where rolname in ('pgq_reader', 'pgq_admin', 'tidemill_producer', 'tidemill_worker', 'tidemill_ticker',
                          'tidemill_mover', 'tidemill_dispatcher', 'tidemill_monitor')
    loop
        execute format('grant usage on schema tidemill to %I', g.role);
        execute format('grant select on tidemill.migration to %I', g.role);
    end loop;
    for g in
        select r.role, r.privileges, r.tables
        from (values
            ('pgq_reader', 'select', 'pgq.queue, pgq.consumer, pgq.tick, pgq.subscription, pgq.event_template'),
            ('pgq_admin', 'select, insert, update, delete', 'pgq.queue, pgq.consumer, pgq.tick, pgq.subscription, pgq.retry_queue'),
            ('pgq_admin', 'select, insert, truncate', 'pgq.event_template'),
            ('tidemill_mover', 'select, insert', 'pgq.event_template'),
            ('tidemill_mover', 'insert', 'tidemill.moved'),
            ('pgq_reader', 'select', 'tidemill.consumer_role'),
            ('tidemill_monitor', 'select', 'tidemill.consumer_role'),
            ('tidemill_dispatcher', 'select', 'tidemill.owner')
        ) r (role, privileges, tables)
        where to_regrole(r.role) is not null and (r.tables !~ '^pgq' or tidemill.owns_pgq())
    loop
        execute format('grant %s on table %s to %I', g.privileges, g.tables, g.role);
    end loop;
    if to_regrole('pgq_admin') is not null and tidemill.owns_pgq() then
        grant usage on all sequences in schema pgq to pgq_admin;
    end if;
end
$grants$;
