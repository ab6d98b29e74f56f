//! Cancelling in the database: rows of the waiting room, what is between there and the log, and what is forgotten when.

#![expect(clippy::unwrap_used, reason = "a failure here is the test's")]

use serde_json::{Value, json};
use tidemill_common::testing::TestDb;
use tokio_postgres::Client;

use crate::support::{all, alone, database, one, refused, run, tick};

/// A job queue `q` (id 1) with an owner of epoch 1.
async fn queue() -> (TestDb, Client) {
    let (db, client) = database().await;
    make(&client).await;
    (db, client)
}

async fn make(client: &Client) {
    run(client, "select tidemill.create_job_queue('q')").await;
    tick(client).await;
    run(client, "select tidemill.owner_take(1, 0, gen_random_uuid(), 'here', 60000)").await;
}

async fn produce(client: &Client, options: &Value) -> i64 {
    let sql = "select tidemill.insert_job('q', 't', '{\"a\": 1}', $1)";
    let id: String = client.query_one(sql, &[options]).await.unwrap().get(0);
    id.parse().unwrap()
}

/// One flush; the answers.
async fn write(client: &Client, cold: &Value) -> Value {
    let sql = "select o_answers from tidemill.journal_write(1, 1, 1, null, $1)";
    client.query_one(sql, &[cold]).await.unwrap().get(0)
}

async fn cancel(client: &Client, item: Value) -> Value {
    write(client, &json!({ "cancel": [item] })).await["cancel"][0].clone()
}

/// A job that a worker has, in the waiting room.
async fn lend(client: &Client, job: i64, due_ms: i64, key: Option<i64>) {
    let wait = json!({"job": job, "put": 1, "attempt": 1, "kind": "leased", "due_ms": due_ms, "epoch": 1, "no": job,
                      "nonce": 9, "time": 0, "type": "t", "cancel_key": key});
    write(client, &json!({ "wait": [wait] })).await;
}

fn finish(job: i64, outcome: &str) -> Value {
    json!({"finish": [{"job": job, "put": 0, "attempt": 1, "epoch": 1, "no": job, "nonce": 9, "delay_ms": 0,
                       "message": "no luck", "outcome": outcome, "cancel": 7}]})
}

async fn waiting(client: &Client) -> Vec<i64> {
    all(client, "select job_id from tidemill.waiting order by 1").await
}

async fn single(client: &Client) -> Vec<i64> {
    all(client, "select job_id from tidemill.cancelling order by 1").await
}

#[tokio::test]
async fn rows_with_the_key_end_and_leases_are_written_down() {
    let (_db, client) = queue().await;
    let hour = |key: Value| json!({"delay_ms": 3_600_000, "cancel_key": key});
    let text = produce(&client, &hour(json!("42"))).await;
    let number = produce(&client, &hour(json!(42))).await;
    let other = produce(&client, &hour(json!(43))).await;
    lend(&client, 100, 60_000, Some(42)).await;
    lend(&client, 101, -1, Some(42)).await;

    let answer = cancel(&client, json!({"key": 42, "code": 7})).await;
    assert_eq!(
        (&answer["gone"], &answer["leased"], &answer["others"]),
        (&json!(3), &json!([100]), &json!([]))
    );
    assert_eq!(waiting(&client).await, [other, 100]);
    assert_eq!(single(&client).await, [100]);
    let cancelled = all::<String>(
        &client,
        "select j.j_note -> 'details' -> d ->> 'cancelled' from tidemill.journal_1_0 j, jsonb_array_elements_text(j_note -> 'jobs') d order by d",
    );
    assert_eq!(cancelled.await, ["7"; 3]);
    let details: Value = one(&client, &format!("select tidemill.job_details(1, {text}, null)")).await;
    assert_eq!(
        (&details["state"], &details["data"], &details["type"]),
        (&json!("cancelled"), &json!("{\"a\": 1}"), &json!("t"))
    );
    let details: Value = one(&client, &format!("select tidemill.job_details(1, {number}, null)")).await;
    assert_eq!(details["state"], "cancelled");

    // The handler gives up: that is the end. Or it completes after all.
    lend(&client, 102, 60_000, None).await;
    assert_eq!(cancel(&client, json!({"job": 102, "code": 7})).await["leased"], json!([102]));
    let answers = write(&client, &finish(100, "temp_fail")).await;
    assert_eq!(answers["finish"], json!(["cancelled"]));
    assert_eq!(write(&client, &finish(102, "complete")).await["finish"], json!(["ok"]));
    assert_eq!((waiting(&client).await, single(&client).await), (vec![other], vec![]));
    let noted: Value = one(
        &client,
        "select j_note -> 'finished' -> 0 -> 2 from tidemill.journal_1_0 where j_note ? 'finished' limit 1",
    )
    .await;
    assert_eq!(noted, "cancelled", "a new owner answers so, too");
    assert_eq!(one::<i64>(&client, "select count(*) from tidemill.failure where job_id = 100").await, 1);
    let (state, _) = refused(
        &client,
        "select tidemill.insert_job('q', 't', null, '{\"delay_ms\": 9, \"cancel_key\": \"x\"}')",
    )
    .await;
    assert_eq!(state, "22P02");
}

#[tokio::test]
async fn a_job_between_the_waiting_room_and_the_log_is_not_missed() {
    let (db, client) = queue().await;
    let job = produce(&client, &json!({"delay_ms": 1, "cancel_key": "42"})).await;
    let ticker = db.client().await;
    let promote = "select tidemill.promote_due(10)";
    tidemill_common::testing::wait_for("it is due", std::time::Duration::from_secs(10), async || {
        run(&ticker, "begin").await;
        if one::<i32>(&ticker, promote).await == 1 {
            return Some(());
        }
        run(&ticker, "rollback").await;
        None
    })
    .await;
    // The row is seen, and held by somebody: nobody waits for it.
    let answer = cancel(&client, json!({"key": 42, "code": 7})).await;
    assert_eq!((&answer["gone"], &answer["others"]), (&json!(0), &json!([job])));
    run(&ticker, "commit").await;
    assert_eq!((waiting(&client).await, single(&client).await), (vec![], vec![job]));
    let snapshot = answer["snapshot"].as_str().unwrap();
    let seen = format!(
        "select txid_visible_in_snapshot(ev_txid, '{snapshot}') from pgq.event_1 where ev_id = {job}"
    );
    assert!(!one::<bool>(&client, &seen).await, "the key alone would not have hit it");
}

#[tokio::test]
async fn many_rows_end_in_portions() {
    let (_db, client) = queue().await;
    let many = "select count(tidemill.insert_job('q', 't', null, '{\"delay_ms\": 3600000, \"cancel_key\": 42}')) from generate_series(1, 1500)";
    run(&client, many).await;
    let first = cancel(&client, json!({"key": 42, "code": 7})).await;
    assert_eq!((&first["gone"], &first["more"]), (&json!(1_000), &json!(true)));
    lend(&client, 9_999, 60_000, Some(42)).await;
    let since: i64 =
        one(&client, "select (extract(epoch from at) * 1000000)::int8 from tidemill.cancellation").await;
    let item = json!({"key": 42, "code": 7, "since": since});
    let second = cancel(&client, item.clone()).await;
    assert_eq!(
        (&second["gone"], &second["leased"], &second["more"]),
        (&json!(500), &json!([9_999]), &json!(false))
    );
    let third = cancel(&client, item).await;
    assert_eq!((&third["gone"], &third["leased"]), (&json!(0), &json!([])), "it is told once");
}

#[tokio::test]
async fn what_is_dead_stays_so_and_may_be_redriven() {
    let (_db, client) = queue().await;
    let dead = json!({"dead": [{"job": 5, "put": 0, "attempt": 1, "reason": "perm_fail", "message": "", "time": 0, "type": "t"}]});
    write(&client, &dead).await;
    let answer = cancel(&client, json!({"job": 5, "code": 7})).await;
    assert_eq!((&answer["gone"], &answer["others"]), (&json!(0), &json!([])));
    run(&client, "insert into tidemill.cancelling (queue_id, job_id, code, at) values (1, 5, 7, now())")
        .await;
    assert_eq!(
        one::<i32>(&client, "select tidemill.redrive_dead(1, '{5}', null, clock_timestamp(), 10)").await,
        1
    );
    assert_eq!(single(&client).await, [0; 0], "whoever redrives it means it");
}

#[tokio::test]
async fn it_is_forgotten_when_the_mark_has_passed_it_and_not_before() {
    // A transaction of another test would hold the tick's snapshot back.
    let (_db, client, _turn) = alone().await;
    make(&client).await;
    let prune = async || write(&client, &json!({"prune": [true]})).await["prune"][0].clone();
    let pass = async || {
        tick(&client).await;
        run(&client, "select tidemill.owner_renew(1, 1, 60000, (select max(tick_id) from pgq.tick where tick_queue = 1))").await;
    };
    produce(&client, &json!({"cancel_key": 42})).await;
    cancel(&client, json!({"key": 42, "code": 7})).await;
    cancel(&client, json!({"job": 1, "code": 7})).await;
    lend(&client, 2, 60_000, None).await;
    cancel(&client, json!({"job": 2, "code": 7})).await;
    let nothing = json!({"keys": [], "jobs": []});
    assert_eq!(prune().await, nothing);
    tick(&client).await;
    assert_eq!(prune().await, nothing, "the mark is where it was");
    produce(&client, &json!({})).await;
    pass().await;
    assert_eq!(prune().await, json!({"keys": [42], "jobs": [1]}));
    produce(&client, &json!({})).await;
    pass().await;
    assert_eq!(prune().await, nothing, "its lease is live");
    write(&client, &finish(2, "complete")).await;
    assert_eq!(single(&client).await, [0; 0]);
    assert_eq!(all::<i64>(&client, "select o_job from tidemill.read_cancellations(1)").await, [0; 0]);
}

#[tokio::test]
async fn a_rebase_writes_down_whom_a_key_hits() {
    let (_db, client) = queue().await;
    let hit = produce(&client, &json!({"cancel_key": "42"})).await;
    cancel(&client, json!({"key": 42, "code": 7})).await;
    let later = produce(&client, &json!({"cancel_key": "42"})).await;
    let of =
        |restored: &str| format!("select tidemill.translate_cancellations(1, 'pgq.event_1_0', {restored})");
    run(&client, &of("'{}'")).await;
    assert_eq!(single(&client).await, [0; 0], "inserted here since");
    run(&client, &of("null")).await;
    assert_eq!(single(&client).await, [hit]);
    assert!(later > hit);
}
