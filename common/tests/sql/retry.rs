//! Retry: the way back into the log.

use crate::support::{all, consume, database, message, one, queue, run, tick};

#[tokio::test]
async fn a_retried_event_comes_back_to_its_owner_only() {
    let (_db, client) = database().await;
    queue(&client).await;
    run(&client, "select pgq.register_consumer('q', 'other')").await;
    run(&client, "select pgq.insert_event('q', 't', '1'), pgq.insert_event('q', 't', '2')").await;
    tick(&client).await;
    consume(&client, "q", "other").await;
    let batch: i64 = one(&client, "select pgq.next_batch('q', 'c')").await;
    let retry = |id: i64| format!("select pgq.event_retry({batch}, {id}, 0)");
    assert_eq!(one::<i32>(&client, &retry(2)).await, 1);
    assert_eq!(one::<i32>(&client, &retry(2)).await, 0);
    assert_eq!(message(&client, &retry(3)).await, "event not found");
    assert_eq!(message(&client, "select pgq.event_retry(999, 1, now())").await, "event not found");
    run(&client, &format!("select pgq.finish_batch({batch})")).await;

    assert_eq!(one::<i32>(&client, "select pgq.maint_retry_events()").await, 1);
    assert_eq!(one::<i32>(&client, "select pgq.maint_retry_events()").await, 0);
    assert_eq!(tick(&client).await, ["q"]);
    assert!(consume(&client, "q", "other").await.is_empty());
    let batch: i64 = one(&client, "select pgq.next_batch('q', 'c')").await;
    let rows = client
        .query("select ev_id, ev_retry, ev_data from pgq.get_batch_events($1)", &[&batch])
        .await
        .expect("events");
    let rows: Vec<(i64, Option<i32>, String)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    assert_eq!(rows, [(2, Some(1), "2".to_owned())]);
    // Again: the count goes on.
    run(&client, &format!("select pgq.event_retry({batch}, 2, now()); select pgq.finish_batch({batch}); select pgq.maint_retry_events()")).await;
    tick(&client).await;
    let batch: i64 = one(&client, "select pgq.next_batch('q', 'c')").await;
    assert_eq!(
        all::<i32>(&client, &format!("select ev_retry from pgq.get_batch_events({batch})")).await,
        [2]
    );
}

#[tokio::test]
async fn everything_due_is_moved_and_what_is_not_stays() {
    let (_db, client) = database().await;
    queue(&client).await;
    run(&client, "select pgq.insert_event('q', 't', n::text) from generate_series(1, 300) n").await;
    tick(&client).await;
    let batch: i64 = one(&client, "select pgq.next_batch('q', 'c')").await;
    run(&client, &format!("select pgq.event_retry({batch}, 300, 3600)")).await;
    assert_eq!(one::<i32>(&client, &format!("select pgq.batch_retry({batch}, 0)")).await, 299);
    run(&client, &format!("select pgq.finish_batch({batch})")).await;
    assert_eq!(one::<i32>(&client, "select pgq.maint_retry_events()").await, 299);
    tick(&client).await;
    assert_eq!(consume(&client, "q", "c").await.concat().len(), 299);
    assert_eq!(all::<i64>(&client, "select ev_id from pgq.retry_queue").await, [300]);
}

#[tokio::test]
async fn a_queue_that_cannot_take_its_retries_does_not_stop_the_others() {
    let (_db, client) = database().await;
    run(&client, "select pgq.create_queue('a'); select pgq.create_queue('b')").await;
    for name in ["a", "b"] {
        run(&client, &format!("select pgq.register_consumer('{name}', 'c')")).await;
        let id: i64 = one(&client, &format!("select pgq.event_retry_raw('{name}', 'c', now(), null, now(), 1, 't', '{name}', null, null, null, null)")).await;
        assert_eq!(id, 1);
    }
    run(&client, "update pgq.queue set queue_disable_insert = true where queue_name = 'a'").await;
    assert_eq!(one::<i32>(&client, "select pgq.maint_retry_events()").await, 1);
    tick(&client).await;
    assert_eq!(consume(&client, "b", "c").await.concat(), ["b"]);
    run(&client, "update pgq.queue set queue_disable_insert = false").await;
    assert_eq!(one::<i32>(&client, "select pgq.maint_retry_events()").await, 1);
    tick(&client).await;
    assert_eq!(consume(&client, "a", "c").await.concat(), ["a"]);
    let text = message(
        &client,
        "select pgq.event_retry_raw('a', 'none', now(), null, now(), 1, null, null, null, null, null, null)",
    )
    .await;
    assert_eq!(text, "consumer not registered");
}
