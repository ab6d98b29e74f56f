-- Grants of pgq_node, set again at every install, as PgQ's own: whoever consumes may look and subscribe, whoever writes
-- keeps a cascaded consumer's state, and only an admin makes and changes nodes.
do $grants$
declare
    g record;
    f record;
begin
    revoke all on schema pgq_node from public;
    revoke all on all tables in schema pgq_node from public;
    revoke all on all functions in schema pgq_node from public;
    revoke all on function tidemill.node_ticks(text) from public;
    grant usage on schema pgq_node to public;
    grant execute on function pgq_node.is_root_node(text), pgq_node.is_leaf_node(text), pgq_node.version() to public;
    for g in
        select r.role, r.functions
        from (values
            ('pgq_reader', '{get_consumer_info,get_consumer_state,get_queue_locations,get_node_info,get_subscriber_info,
                register_subscriber,unregister_subscriber,set_subscriber_watermark}'::text[]),
            ('pgq_writer', '{get_consumer_info,get_consumer_state,get_queue_locations,get_node_info,get_subscriber_info,
                register_subscriber,unregister_subscriber,set_subscriber_watermark,
                register_consumer,unregister_consumer,change_consumer_provider,set_consumer_uptodate,
                set_consumer_paused,set_consumer_completed,set_consumer_error}'),
            ('pgq_admin', '{*}')
        ) r (role, functions)
        where to_regrole(r.role) is not null
    loop
        execute format(
            'grant %s on all tables in schema pgq_node to %I',
            case g.role when 'pgq_admin' then 'select, insert, update, delete' else 'select' end, g.role);
        for f in
            select p.oid::regprocedure as signature from pg_proc p join pg_namespace n on n.oid = p.pronamespace
            where n.nspname = 'pgq_node' and (g.functions = '{*}' or p.proname = any (g.functions))
        loop
            execute format('grant execute on function %s to %I', f.signature, g.role);
        end loop;
    end loop;
end
$grants$;
