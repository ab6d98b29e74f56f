//! `pgq_node`: nodes of cascaded queues, their watermarks, and a change of roles. Codes and texts are those of PgQ.

use tokio_postgres::Client;

use crate::support::{all, database, message, one, refused, run, tick};

/// Code and text that a function of `pgq_node` answers.
async fn answer(client: &Client, call: &str) -> (i32, String) {
    let sql = format!("select ret_code, coalesce(ret_note, '') from pgq_node.{call}");
    let row = client.query_one(&sql, &[]).await;
    let row = row.unwrap_or_else(|error| panic!("{call}: {}", tidemill_common::error_chain(&error)));
    (row.get(0), row.get(1))
}

/// Each call answers this.
async fn answers(client: &Client, expected: &[(&str, i32, &str)]) {
    for &(call, code, text) in expected {
        assert_eq!(answer(client, call).await, (code, text.to_owned()), "{call}");
    }
}

/// The row that a query answers, as JSON without its nulls.
async fn json(client: &Client, query: &str) -> String {
    one(client, &format!("select json_strip_nulls(to_json(x))::text from ({query}) x")).await
}

/// A root `a` of the set `s`, whose other node `b` is known.
async fn root(client: &Client) {
    answers(
        client,
        &[
            ("register_location('s', 'a', 'dbname=a', false)", 200, "Location registered"),
            ("register_location('s', 'b', 'dbname=b', false)", 200, "Location registered"),
            (
                "create_node('s', 'root', 'a', 'worker', null, null, null)",
                200,
                "Node \"a\" initialized for queue \"s\" with type \"root\"",
            ),
        ],
    )
    .await;
}

/// A branch `b` of the set `s`, whose provider is `a`, from tick 5.
async fn branch(client: &Client) {
    answers(
        client,
        &[
            ("register_location('s', 'a', 'dbname=a', false)", 200, "Location registered"),
            ("register_location('s', 'b', 'dbname=b', false)", 200, "Location registered"),
            (
                "create_node('s', 'branch', 'b', 'worker', 'a', 5, null)",
                200,
                "Node \"b\" initialized for queue \"s\" with type \"branch\"",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let (_db, client) = database().await;
    answers(
        &client,
        &[
            ("get_node_info('s')", 404, "Unknown queue: s"),
            ("get_worker_state('s')", 404, "Unknown queue: s"),
            ("get_consumer_state('s', 'c')", 404, "Unknown queue: s"),
            ("register_subscriber('s', 'b', 'w', null)", 404, "Unknown queue: s"),
            ("unregister_subscriber('s', 'b')", 304, "Subscriber not found"),
            ("set_subscriber_watermark('s', 'b', 1)", 404, "node b not subscribed to queue s"),
            ("set_global_watermark('s', 1)", 404, "Queue s not found"),
            ("set_partition_watermark('s', 'p', 1)", 201, "Part-queue does not exist"),
            ("register_consumer('s', 'c', 'a', 1)", 404, "Unknown queue: s"),
            ("unregister_consumer('s', 'c')", 404, "Unknown queue: s"),
            ("change_consumer_provider('s', 'c', 'a')", 404, "New node not found: a"),
            ("set_consumer_uptodate('s', 'c', true)", 404, "Consumer not known: s/c"),
            ("set_consumer_paused('s', 'c', true)", 404, "Unknown consumer: c"),
            ("set_consumer_completed('s', 'c', 1)", 404, "Consumer not known: s/c"),
            ("set_consumer_error('s', 'c', 'e')", 101, "Consumer not known, ignoring: s/c"),
            ("set_node_attrs('s', 'x=1')", 404, "Node not found"),
            ("demote_root('s', 1, 'b')", 404, "Node not initialized for queue: s"),
            ("promote_branch('s')", 404, "Node not initialized for queue: s"),
            ("unregister_location('s', 'b')", 301, "Location not found: s/b"),
            ("drop_node('s', 'b')", 200, "Node dropped: b"),
        ],
    )
    .await;
    for function in ["is_root_node", "is_leaf_node"] {
        let text = message(&client, &format!("select pgq_node.{function}('s')")).await;
        assert_eq!(text, "queue does not exist: s");
    }
    assert_eq!(one::<i32>(&client, "select pgq_node.maint_watermark('s')").await, 0);
    assert_eq!(one::<i32>(&client, "select pgq_node.upgrade_schema()").await, 0);
    assert_eq!(one::<String>(&client, "select pgq_node.version()").await, "3.5");
}

#[tokio::test]
async fn a_node_is_made_whole_or_not_at_all() {
    let (_db, client) = database().await;
    let unknown = "select pgq_node.create_node('s', 'root', 'a', 'worker', null, null, null)";
    assert_eq!(refused(&client, unknown).await.0, "23503", "its location is not registered");
    run(&client, "select pgq_node.register_location('s', 'a', 'dbname=a', false)").await;
    answers(
        &client,
        &[
            ("create_node('s', 'tree', 'a', 'worker', null, null, null)", 401, "bad node type: tree"),
            ("create_node('s', 'root', 'a', 'worker', 'p', null, null)", 401, "unexpected args for root"),
            ("create_node('s', 'root', 'a', 'worker', null, 1, null)", 401, "unexpected args for root"),
            ("create_node('s', 'branch', 'a', 'worker', null, 1, null)", 401, "provider not set for branch"),
            (
                "create_node('s', 'branch', 'a', 'worker', 'p', null, null)",
                401,
                "global watermark not set for branch",
            ),
            (
                "create_node('s', 'leaf', 'a', 'worker', 'p', 1, 'all')",
                401,
                "non-existing queue on leaf side: all",
            ),
        ],
    )
    .await;
    assert_eq!(one::<i64>(&client, "select count(*) from pgq.queue").await, 0);
    root(&client).await;
    let again = "create_node('s', 'root', 'a', 'worker', null, null, null)";
    answers(&client, &[(again, 401, "Node already initialized")]).await;
    assert_eq!(
        json(&client, "select * from pgq_node.get_node_info('s')").await,
        r#"{"ret_code":100,"ret_note":"Ok","node_type":"root","node_name":"a","global_watermark":1,"#
            .to_owned()
            + r#""local_watermark":1,"provider_node":"a","provider_location":"dbname=a","worker_name":"worker","#
            + r#""worker_paused":false,"worker_uptodate":false,"worker_last_tick":1}"#
    );
    assert_eq!(
        json(&client, "select * from pgq_node.get_worker_state('s')").await,
        r#"{"ret_code":100,"ret_note":"Ok","node_type":"root","node_name":"a","completed_tick":1,"#
            .to_owned()
            + r#""provider_node":"a","provider_location":"dbname=a","paused":false,"uptodate":false,"#
            + r#""worker_name":"worker","global_watermark":1,"local_watermark":1,"local_queue_top":1}"#
    );
    assert!(
        one::<bool>(&client, "select pgq_node.is_root_node('s') and not pgq_node.is_leaf_node('s')").await
    );
}

#[tokio::test]
async fn a_root_tells_all_nodes_where_they_are_and_what_is_needed() {
    let (_db, client) = database().await;
    root(&client).await;
    answers(
        &client,
        &[
            ("register_location('s', 'b', null, true)", 200, "Location registered"),
            ("register_location('s', 'c', null, false)", 200, "Location registered"),
            ("unregister_location('s', 'a')", 403, "Cannot drop node's own location"),
            ("set_global_watermark('s', null)", 200, "Global watermark set to 1"),
            ("unregister_location('s', 'b')", 200, "Ok"),
        ],
    )
    .await;
    let events =
        "select concat_ws('|', ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3) from pgq.event_template
                  order by ev_id";
    assert_eq!(
        all::<String>(&client, events).await,
        [
            "pgq.location-info|b|s|true",
            "pgq.location-info|c|s|false",
            "pgq.global-watermark|1|s",
            "pgq.unregister-location|b|s",
        ]
    );
    let locations = "select node_name || node_location || dead from pgq_node.get_queue_locations('s')";
    assert_eq!(all::<String>(&client, locations).await, ["adbname=afalse"]);
}

#[tokio::test]
async fn watermarks_pin_what_a_node_needs_and_move_forward_only() {
    let (_db, client) = database().await;
    root(&client).await;
    answers(&client, &[("register_subscriber('s', 'b', 'wb', null)", 200, "Subscriber registered: b")]).await;
    for _ in 0..3 {
        run(&client, "select pgq.insert_event('s', 't', 'd')").await;
        assert_eq!(tick(&client).await, ["s"]);
    }
    let subscribers = "select node_name || ' ' || worker_name || ' ' || node_watermark
                       from pgq_node.get_subscriber_info('s')";
    assert_eq!(all::<String>(&client, subscribers).await, ["b wb 1"]);
    run(&client, "select pgq.register_consumer_at('s', 'wb', 4)").await;
    answers(
        &client,
        &[
            ("set_subscriber_watermark('s', 'b', 1)", 100, "watermark already set"),
            ("set_global_watermark('s', null)", 200, "Global watermark set to 1"),
            ("set_subscriber_watermark('s', 'b', 3)", 200, ".b.watermark set to 3"),
            ("set_subscriber_watermark('s', 'b', 2)", 405, "watermark must not be moved backwards"),
            ("set_global_watermark('s', null)", 200, "Global watermark set to 3"),
        ],
    )
    .await;
    let missing = message(&client, "select pgq_node.set_subscriber_watermark('s', 'b', 9)").await;
    assert_eq!(missing, "cannot reposition, tick not found: 9");
    let pins = "select consumer_name || ' ' || last_tick from pgq.get_consumer_info('s')";
    assert_eq!(all::<String>(&client, pins).await, [".b.watermark 3", ".global_watermark 3", "wb 4"]);
    let state = "select completed_tick from pgq_node.get_worker_state('s')";
    assert_eq!(one::<i64>(&client, state).await, 3, "the root's worker goes along");

    // Young: left alone. Old: published.
    let published = "select count(*) from pgq.event_template where ev_type = 'pgq.global-watermark'";
    assert_eq!(one::<i32>(&client, "select pgq_node.maint_watermark('s')").await, 0);
    assert_eq!(one::<i64>(&client, published).await, 2);
    run(&client, "update pgq.tick set tick_time = now() - interval '6 minutes' where tick_id = 3").await;
    let operations =
        "select func_name || ' ' || func_arg from pgq.maint_operations() where func_name like 'pgq_node%'";
    assert_eq!(all::<String>(&client, operations).await, ["pgq_node.maint_watermark s"]);
    assert_eq!(one::<i32>(&client, "select pgq_node.maint_watermark('s')").await, 0);
    assert_eq!(one::<i64>(&client, published).await, 3);

    answers(&client, &[("unregister_subscriber('s', 'b')", 200, "Subscriber unregistered: b")]).await;
    assert_eq!(all::<String>(&client, pins).await, [".global_watermark 3"]);
}

#[tokio::test]
async fn a_branch_takes_events_and_ticks_from_its_worker_only() {
    let (_db, client) = database().await;
    branch(&client).await;
    let row = "select queue_external_ticker and queue_disable_insert from pgq.queue";
    assert!(one::<bool>(&client, row).await);
    let denied = message(&client, "select pgq.insert_event('s', 't', 'd')").await;
    assert_eq!(denied, "Insert into queue disallowed");
    assert_eq!(message(&client, "select pgq.current_event_table('s')").await, "Writing to queue disabled");
    run(&client, "select pgq.register_consumer('s', 'reader')").await;

    // What a cascaded worker does with a batch: its events with their ids, and its position, in one transaction...
    run(
        &client,
        "begin; set local session_replication_role = replica;
         insert into pgq.event_1_0 (ev_id, ev_time, ev_type, ev_data) values (41, now(), 't', 'x'), (42, now(), 't', 'y');
         select pgq.insert_event('s', 't', 'z');
         select pgq_node.set_consumer_completed('s', 'worker', 6); commit",
    )
    .await;
    // ... and then its tick, which ours leaves alone.
    assert!(tick(&client).await.is_empty());
    run(&client, "select pgq.ticker('s', 6, now() - interval '1 hour', 42)").await;
    let batch: i64 = one(&client, "select pgq.next_batch('s', 'reader')").await;
    let events = format!("select ev_data from pgq.get_batch_events({batch})");
    assert_eq!(all::<String>(&client, &events).await, ["z", "x", "y"]);
    run(&client, &format!("select pgq.finish_batch({batch})")).await;

    answers(
        &client,
        &[
            ("set_global_watermark('s', null)", 500, "bad usage: wm=null on branch node"),
            ("set_global_watermark('s', 4)", 200, "Skipping global watermark update to 4"),
            ("set_global_watermark('s', 6)", 200, "Global watermark set to 6"),
            ("register_subscriber('s', 'a', 'wa', 5)", 200, "Subscriber registered: a"),
            ("unregister_location('s', 'a')", 403, "Cannot drop location of node's parent"),
            ("drop_node('s', 'a')", 405, "Cannot drop provider node: a"),
            ("drop_node('s', 'b')", 200, "Node dropped: b"),
        ],
    )
    .await;
    for table in ["pgq.queue", "pgq.consumer", "pgq_node.node_location", "pgq_node.local_state"] {
        assert_eq!(one::<i64>(&client, &format!("select count(*) from {table}")).await, 0, "{table}");
    }
}

#[tokio::test]
async fn a_cascaded_consumer_keeps_its_state() {
    let (_db, client) = database().await;
    root(&client).await;
    answers(
        &client,
        &[
            ("register_consumer('s', 'c', 'b', 1)", 200, "Consumer c registered on queue s"),
            ("register_consumer('s', 'c', 'a', 2)", 201, "Consumer already registered: s/c"),
            ("set_consumer_uptodate('s', 'c', true)", 200, "Consumer uptodate = 1"),
            ("set_consumer_error('s', 'c', 'broken')", 100, "Consumer c error = broken"),
        ],
    )
    .await;
    let state = "select concat_ws(' ', provider_node, last_tick_id, paused, uptodate, cur_error)
                 from pgq_node.get_consumer_info('s') where consumer_name = 'c'";
    assert_eq!(one::<String>(&client, state).await, "a 2 f t broken");
    answers(
        &client,
        &[
            ("set_consumer_completed('s', 'c', 3)", 100, "Consumer c completed tick = 3"),
            ("change_consumer_provider('s', 'c', 'b')", 200, "Consumer provider node set to : b"),
            ("change_consumer_provider('s', 'x', 'b')", 404, "Unknown consumer: s/x"),
        ],
    )
    .await;
    assert_eq!(one::<String>(&client, state).await, "b 3 f f");
    answers(
        &client,
        &[
            ("set_consumer_uptodate('s', 'c', true)", 200, "Consumer uptodate = 1"),
            ("set_consumer_paused('s', 'c', true)", 200, "Consumer c tagged as paused"),
            ("set_consumer_paused('s', 'c', true)", 201, "Consumer c already paused"),
            ("get_consumer_state('s', 'x')", 404, "Unknown consumer: s/x"),
        ],
    )
    .await;
    assert_eq!(
        json(&client, "select * from pgq_node.get_consumer_state('s', 'c')").await,
        r#"{"ret_code":100,"ret_note":"Ok","node_type":"root","node_name":"a","completed_tick":3,"#
            .to_owned()
            + r#""provider_node":"b","provider_location":"dbname=b","paused":true,"uptodate":false}"#
    );
    answers(
        &client,
        &[
            ("set_consumer_paused('s', 'c', false)", 200, "Consumer c tagged as resumed"),
            ("set_consumer_paused('s', 'c', false)", 201, "Consumer c already resumed"),
            ("unregister_consumer('s', 'c')", 200, "Consumer c unregistered from s"),
            ("set_node_attrs('s', 'sync_watermark=b')", 200, "Node attributes updated"),
        ],
    )
    .await;
    let attributes = "select node_attrs from pgq_node.get_node_info('s')";
    assert_eq!(one::<String>(&client, attributes).await, "sync_watermark=b");
}

#[tokio::test]
async fn a_leaf_has_a_position_and_follows_the_combined_root() {
    let (_db, client) = database().await;
    branch(&client).await;
    run(
        &client,
        "select pgq_node.register_location('p', n, 'dbname=' || n, false) from unnest('{a,b}'::text[]) n",
    )
    .await;
    answers(
        &client,
        &[
            (
                "create_node('p', 'leaf', 'b', 'worker_p', 'a', 7, 's')",
                200,
                "Node \"b\" initialized for queue \"p\" with type \"leaf\"",
            ),
            ("set_global_watermark('p', 9)", 100, "Ignoring global watermark in leaf"),
            ("register_subscriber('p', 'a', 'w', null)", 401, "Cannot subscribe to leaf node"),
            ("set_partition_watermark('s', 'p', 8)", 200, "Ok"),
        ],
    )
    .await;
    assert!(one::<bool>(&client, "select pgq_node.is_leaf_node('p')").await);
    assert_eq!(
        json(&client, "select * from pgq_node.get_worker_state('p')").await,
        r#"{"ret_code":100,"ret_note":"Ok","node_type":"leaf","node_name":"b","completed_tick":8,"#
            .to_owned()
            + r#""provider_node":"a","provider_location":"dbname=a","paused":false,"uptodate":false,"#
            + r#""worker_name":"worker_p","local_watermark":8,"combined_queue":"s","combined_type":"branch"}"#
    );
    let targets = "select target_for from pgq_node.get_node_info('s')";
    assert_eq!(one::<Vec<String>>(&client, targets).await, ["p"]);
    answers(&client, &[("promote_branch('s')", 200, "Branch node promoted to root")]).await;
    let now_it_is_the_root = "set_partition_watermark('s', 'p', 9)";
    answers(&client, &[(now_it_is_the_root, 201, "Part-queue does not exist")]).await;
}

#[tokio::test]
async fn a_root_steps_down_after_its_last_writer_and_can_come_back() {
    let (db, client) = database().await;
    root(&client).await;
    for step in [2, 3] {
        let early = message(&client, &format!("select pgq_node.demote_root('s', {step}, 'b')")).await;
        assert_eq!(early, "steps in wrong order");
    }
    run(&client, "select pgq.register_consumer('s', 'reader')").await;
    let writer = db.client().await;
    run(&writer, "begin; select pgq.insert_event('s', 't', 'late')").await;
    let step = |n: i32| format!("demote_root('s', {n}, 'b')");
    answers(&client, &[(&step(1), 200, "Step 1: Writing disabled for: s")]).await;
    let denied = message(&client, "select pgq.insert_event('s', 't', 'd')").await;
    assert_eq!(denied, "Insert into queue disallowed");
    // Its last tick waits for the writer, and has its event.
    run(&client, "set lock_timeout = '50 ms'").await;
    let (code, _) = refused(&client, "select pgq_node.demote_root('s', 2, 'b')").await;
    assert_eq!(code, "55P03");
    run(&client, "reset lock_timeout").await;
    let committed = async { run(&writer, "commit").await };
    let (stepped, ()) = tokio::join!(answer(&client, "demote_root('s', 2, 'b')"), committed);
    assert_eq!(stepped, (200, "Step 2: Inserted last tick: s".to_owned()));
    let batch: i64 = one(&client, "select pgq.next_batch('s', 'reader')").await;
    let events = format!("select ev_data from pgq.get_batch_events({batch})");
    assert!(all::<String>(&client, &events).await.contains(&"late".to_owned()));

    answers(&client, &[(&step(3), 200, "Step 3: Demoted root to branch: s")]).await;
    let state = "select node_type || provider_node || completed_tick - local_queue_top
                 from pgq_node.get_worker_state('s')";
    assert_eq!(one::<String>(&client, state).await, "branchb0");
    assert!(tick(&client).await.is_empty(), "ticks come from its provider");
    answers(&client, &[(&step(1), 301, "Node not root")]).await;

    let top: i64 = one(&client, "select local_queue_top from pgq_node.get_worker_state('s')").await;
    run(&client, &format!("select pgq.ticker('s', {top} + 10, now(), 1000)")).await;
    answers(
        &client,
        &[
            ("promote_branch('s')", 200, "Branch node promoted to root"),
            ("promote_branch('s')", 301, "Node not branch"),
        ],
    )
    .await;
    assert_eq!(one::<String>(&client, state).await, "roota0");
    assert!(one::<i64>(&client, "select pgq.insert_event('s', 't', 'mine')").await > 1000);
    assert_eq!(tick(&client).await, ["s"]);
    let ticked: i64 = one(&client, "select local_queue_top from pgq_node.get_worker_state('s')").await;
    assert_eq!(ticked, top + 11);
    assert_eq!(message(&client, "select pgq_node.demote_root('s', 4, 'b')").await, "steps in wrong order");
    run(&client, "select pgq_node.demote_root('s', 1, 'b')").await;
    assert_eq!(message(&client, "select pgq_node.demote_root('s', 4, 'b')").await, "incorrect step number");
}

#[tokio::test]
async fn who_consumes_may_subscribe_who_writes_keeps_state_and_an_admin_makes_nodes() {
    let (_db, client) = database().await;
    root(&client).await;
    let look = ["get_node_info('s')", "get_queue_locations('s')", "register_subscriber('s', 'b', 'w', null)"];
    let keep = ["register_consumer('s', 'c', 'a', 1)", "set_consumer_error('s', 'c', 'e')"];
    let make = [
        "set_global_watermark('s', null)",
        "register_location('s', 'c', 'x', false)",
        "get_worker_state('s')",
    ];
    let rows = [
        ("pgq_reader", &look[..], [&keep[..], &make[..]].concat()),
        ("pgq_writer", &[&look[..2], &keep[..]].concat()[..], make.to_vec()),
        ("pgq_admin", &[&look[..2], &keep[..], &make[..]].concat()[..], Vec::new()),
    ];
    for (role, allowed, denied) in rows {
        run(&client, &format!("set role {role}")).await;
        for call in allowed {
            run(&client, &format!("select pgq_node.{call}")).await;
        }
        for call in denied {
            let (code, _) = refused(&client, &format!("select pgq_node.{call}")).await;
            assert_eq!(code, "42501", "{role} {call}");
        }
        assert!(one::<bool>(&client, "select pgq_node.is_root_node('s')").await);
        run(&client, "reset role").await;
    }
    let public = "select p.proname::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace,
                  lateral aclexplode(p.proacl) a where n.nspname = 'pgq_node' and a.grantee = 0 order by 1";
    assert_eq!(all::<String>(&client, public).await, ["is_leaf_node", "is_root_node", "version"]);
}
