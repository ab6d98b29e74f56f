//! Cooperative consumers: members share the batches of one consumer.

use tokio_postgres::Client;

use crate::support::{all, database, message, one, queue, run, tick};

/// The next batch of a member of `q`/`c`; a member with an open batch is dead after an hour without a sign.
async fn next(client: &Client, member: &str) -> Option<i64> {
    one(client, &format!("select pgq_coop.next_batch('q', 'c', '{member}', '1 hour')")).await
}

async fn finish(client: &Client, batch: i64) -> i32 {
    one(client, &format!("select pgq_coop.finish_batch({batch})")).await
}

async fn events(client: &Client, batch: i64) -> Vec<String> {
    all(client, &format!("select ev_data from pgq.get_batch_events({batch})")).await
}

async fn produce(client: &Client, data: &str) {
    run(client, &format!("select pgq.insert_event('q', 't', '{data}')")).await;
    tick(client).await;
}

/// Without a sign of life for longer than the dead interval.
async fn silence(client: &Client, member: &str) {
    let sql = format!(
        "update pgq.subscription set sub_active = now() - interval '2 hours' \
         where sub_consumer = (select co_id from pgq.consumer where co_name = 'c.{member}')"
    );
    run(client, &sql).await;
}

async fn members(client: &Client) -> Vec<String> {
    all(client, "select consumer_name from pgq.get_consumer_info('q') where consumer_name like 'c.%'").await
}

#[tokio::test]
async fn each_batch_goes_to_one_member() {
    let (_db, client) = database().await;
    queue(&client).await;
    assert_eq!(one::<i32>(&client, "select pgq_coop.register_subconsumer('q', 'c', 'a')").await, 1);
    assert_eq!(one::<i32>(&client, "select pgq_coop.register_subconsumer('q', 'c', 'a')").await, 0);
    produce(&client, "1").await;
    produce(&client, "2").await;
    let a = next(&client, "a").await.expect("a batch");
    assert_eq!(next(&client, "a").await, Some(a), "its own again");
    // A member that nobody registered.
    let b = next(&client, "b").await.expect("a batch");
    assert_eq!(
        (events(&client, a).await, events(&client, b).await),
        (vec!["1".to_owned()], vec!["2".to_owned()])
    );
    assert_eq!(next(&client, "late").await, None);
    assert_eq!(finish(&client, b).await, 1);
    assert_eq!(finish(&client, b).await, 0);
    assert_eq!(finish(&client, a).await, 1);
    assert_eq!(members(&client).await, ["c.a", "c.b", "c.late"]);
    let cursors = "select count(sub_last_tick) from pgq.subscription";
    assert_eq!(one::<i64>(&client, cursors).await, 1, "members have no cursor");
}

#[tokio::test]
async fn a_batch_that_was_taken_over_has_a_new_id_and_the_old_one_is_dead() {
    let (_db, client) = database().await;
    queue(&client).await;
    produce(&client, "1").await;
    let old = next(&client, "a").await.expect("a batch");
    assert_eq!(next(&client, "b").await, None);
    silence(&client, "a").await;
    let new = next(&client, "b").await.expect("taken over");
    assert_ne!(old, new);
    assert_eq!(events(&client, new).await, ["1"]);
    assert_eq!(message(&client, &format!("select pgq.get_batch_events({old})")).await, "batch not found");
    assert_eq!(message(&client, &format!("select pgq.event_retry({old}, 1, 0)")).await, "event not found");
    assert_eq!(finish(&client, old).await, 0);
    assert_eq!(one::<i32>(&client, &format!("select pgq.finish_batch({old})")).await, 0);
    assert!(!one::<bool>(&client, &format!("select pgq_coop.heartbeat({old})")).await);
    assert_eq!(finish(&client, new).await, 1);
    // The zombie comes back as a new member.
    assert_eq!(next(&client, "a").await, None);
    assert_eq!(members(&client).await, ["c.a", "c.b"]);
}

#[tokio::test]
async fn a_heartbeat_keeps_a_batch() {
    let (_db, client) = database().await;
    queue(&client).await;
    produce(&client, "1").await;
    let a = next(&client, "a").await.expect("a batch");
    let by_name = "select pgq_coop.heartbeat('q', 'c', 'a')";
    silence(&client, "a").await;
    assert!(one::<bool>(&client, &format!("select pgq_coop.heartbeat({a})")).await);
    assert_eq!(next(&client, "b").await, None);
    silence(&client, "a").await;
    assert_eq!(one::<Option<i64>>(&client, by_name).await, Some(a));
    assert_eq!(next(&client, "b").await, None);
    assert_eq!(finish(&client, a).await, 1);
    assert_eq!(one::<Option<i64>>(&client, by_name).await, None);
}

#[tokio::test]
async fn a_member_that_finishes_at_this_moment_is_alive() {
    let (db, client) = database().await;
    queue(&client).await;
    produce(&client, "1").await;
    let a = next(&client, "a").await.expect("a batch");
    silence(&client, "a").await;
    let other = db.client().await;
    run(&other, &format!("begin; select pgq_coop.finish_batch({a})")).await;
    assert_eq!(next(&client, "b").await, None);
    run(&other, "commit").await;
    assert_eq!(members(&client).await, ["c.a", "c.b"]);
}

#[tokio::test]
async fn idle_members_stay_and_are_forgotten_after_a_day() {
    let (_db, client) = database().await;
    queue(&client).await;
    assert_eq!(next(&client, "idle").await, None);
    silence(&client, "idle").await;
    assert_eq!(next(&client, "b").await, None);
    assert_eq!(members(&client).await, ["c.b", "c.idle"]);
    // Looking for work is a sign of life.
    assert_eq!(next(&client, "idle").await, None);
    let unseen = "select count(*) from pgq.subscription where sub_active < now() - interval '1 minute' and sub_last_tick is null";
    assert_eq!(one::<i64>(&client, unseen).await, 0);
    run(
        &client,
        "update pgq.subscription set sub_active = now() - interval '25 hours' where sub_last_tick is null",
    )
    .await;
    assert_eq!(next(&client, "b").await, None);
    assert_eq!(members(&client).await, ["c.b"]);
}

#[tokio::test]
async fn nobody_finishes_the_batch_of_another_by_accident() {
    let (_db, client) = database().await;
    queue(&client).await;
    run(&client, "select pgq.register_consumer('q', 'plain')").await;
    produce(&client, "1").await;
    let a = next(&client, "a").await.expect("a batch");
    let plain: i64 = one(&client, "select pgq.next_batch('q', 'plain')").await;
    assert_eq!(finish(&client, plain).await, 0, "not a member's");
    let named =
        |member: &str, batch: i64| format!("select pgq_coop.finish_batch('q', 'c', '{member}', {batch})");
    assert_eq!(one::<i32>(&client, &named("b", a)).await, 0);
    assert_eq!(one::<i32>(&client, &named("a", a)).await, 1);
    // The wrong function for a member does the right thing.
    produce(&client, "2").await;
    let a = next(&client, "a").await.expect("a batch");
    assert_eq!(one::<i32>(&client, &format!("select pgq.finish_batch({a})")).await, 1);
    let cursor = "select sub_last_tick from pgq.subscription where sub_consumer = (select co_id from pgq.consumer where co_name = 'c.a')";
    assert_eq!(one::<Option<i64>>(&client, cursor).await, None);
    assert_eq!(next(&client, "a").await, None);
    assert_eq!(one::<i32>(&client, &format!("select pgq.finish_batch({plain})")).await, 1);
}

#[tokio::test]
async fn what_is_retried_goes_to_any_member() {
    let (_db, client) = database().await;
    queue(&client).await;
    run(&client, "select pgq.register_consumer('q', 'other')").await;
    produce(&client, "1").await;
    let a = next(&client, "a").await.expect("a batch");
    assert_eq!(one::<i32>(&client, &format!("select pgq.event_retry({a}, 1, 0)")).await, 1);
    assert_eq!(finish(&client, a).await, 1);
    assert_eq!(one::<i32>(&client, "select pgq.maint_retry_events()").await, 1);
    tick(&client).await;
    let b = next(&client, "b").await.expect("a batch");
    assert_eq!(events(&client, b).await, ["1"]);
    assert_eq!(crate::support::consume(&client, "q", "other").await, [["1"]]);
}

#[tokio::test]
async fn the_errors_are_those_of_the_reference() {
    let (_db, client) = database().await;
    queue(&client).await;
    produce(&client, "1").await;
    let leave = |handling: i32| format!("select pgq_coop.unregister_subconsumer('q', 'c', 'a', {handling})");
    assert_eq!(one::<i32>(&client, &leave(0)).await, 0);
    let main: i64 = one(&client, "select pgq.next_batch('q', 'c')").await;
    let ask = "select pgq_coop.next_batch('q', 'c', 'a')";
    assert_eq!(message(&client, ask).await, "main consumer has batch open?");
    run(&client, &format!("select pgq.finish_batch({main})")).await;
    produce(&client, "2").await;
    assert!(one::<Option<i64>>(&client, ask).await.is_some());
    assert_eq!(message(&client, &leave(0)).await, "subconsumer has active batch");
    assert_eq!(one::<i32>(&client, &leave(1)).await, 1);
    assert_eq!(
        message(&client, "select pgq_coop.next_batch('none', 'c', 'a')").await,
        "Event queue not created yet"
    );
    run(&client, "select pgq.register_consumer('q', 'c.solo')").await;
    assert_eq!(
        message(&client, "select pgq_coop.next_batch('q', 'c', 'solo')").await,
        "consumer c.solo is registered on queue q on its own, not as a member of c"
    );
    assert_eq!(one::<String>(&client, "select pgq_coop.version()").await, "3.4");
    // The main consumer takes its members along.
    assert_eq!(one::<Option<i64>>(&client, ask).await, None);
    assert_eq!(one::<i32>(&client, "select pgq.unregister_consumer('q', 'c')").await, 2);
}

/// Many members at once, each batch open for a moment, some of them dropped: every event once, each batch once.
#[tokio::test]
async fn members_at_once_get_each_batch_once() {
    let (db, client) = database().await;
    queue(&client).await;
    for n in 0..40 {
        produce(&client, &n.to_string()).await;
    }
    let member = |n: usize| {
        let client = db.client();
        async move {
            let client = client.await;
            let mut seen = Vec::new();
            while let Some(batch) = next(&client, &format!("m{n}")).await {
                seen.extend(events(&client, batch).await);
                assert_eq!(finish(&client, batch).await, 1);
            }
            seen
        }
    };
    let mut seen = futures_util::future::join_all((0..6).map(member)).await.concat();
    seen.sort_by_key(|n| n.parse::<u32>().expect("a number"));
    assert_eq!(seen, (0..40).map(|n| n.to_string()).collect::<Vec<_>>());
}

/// Members that rob each other all the time: whoever's finish counts had read the events, and it counts once.
#[tokio::test]
async fn of_members_that_rob_each_other_one_finishes_each_batch() {
    let (db, client) = database().await;
    queue(&client).await;
    for n in 0..60 {
        produce(&client, &n.to_string()).await;
    }
    let member = |n: usize| {
        let client = db.client();
        async move {
            let client = client.await;
            let next = format!("select pgq_coop.next_batch('q', 'c', 'm{n}', '0 seconds')");
            let (mut seen, mut robbed) = (Vec::new(), 0);
            while let Some(batch) = one::<Option<i64>>(&client, &next).await {
                let read = format!("select ev_data from pgq.get_batch_events({batch})");
                let events = client.query(&read, &[]).await;
                match finish(&client, batch).await {
                    1 => seen.extend(events.expect("its own").iter().map(|row| row.get::<_, String>(0))),
                    _ => robbed += 1,
                }
            }
            (seen, robbed)
        }
    };
    let results = futures_util::future::join_all((0..8).map(member)).await;
    assert!(results.iter().any(|(_, robbed)| *robbed > 0), "nobody was robbed");
    let mut seen: Vec<u32> =
        results.iter().flat_map(|(seen, _)| seen).map(|n| n.parse().expect("a number")).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..60).collect::<Vec<_>>());
}

/// The main cursor is past a member's batch; its events stay until it is finished.
#[tokio::test]
async fn the_open_batch_of_a_member_holds_rotation_back() {
    let (_db, client, _turn) = crate::support::alone().await;
    queue(&client).await;
    run(&client, "select pgq.set_queue_config('q', 'rotation_period', '0 seconds')").await;
    produce(&client, "1").await;
    let batch = next(&client, "a").await.expect("a batch");
    let rotate = async |times: usize| {
        for n in 0..times {
            produce(&client, &format!("later {n}")).await;
            while let Some(batch) = next(&client, "b").await {
                finish(&client, batch).await;
            }
            run(&client, "select tidemill.rotate('q')").await;
            run(&client, "select pgq.maint_rotate_tables_step2()").await;
        }
    };
    rotate(6).await;
    assert_eq!(events(&client, batch).await, ["1"]);
    assert_eq!(finish(&client, batch).await, 1);
    rotate(6).await;
    let kept = "select count(*) from pgq.event_template where ev_data = '1'";
    assert_eq!(one::<i64>(&client, kept).await, 0);
}
