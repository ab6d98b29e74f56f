//! Timeouts in the waiting room: a lease is not extended beyond the time of its attempt, and a row at its bound is left alone.

#![expect(clippy::unwrap_used, reason = "a failure here is the test's")]

use serde_json::{Value, json};
use tidemill_common::testing::TestDb;
use tokio_postgres::Client;

use crate::support::{all, database, one, refused, run, tick};

/// A job queue `q` (id 1) with an owner of epoch 1.
async fn queue() -> (TestDb, Client) {
    let (db, client) = database().await;
    run(&client, "select tidemill.create_job_queue('q')").await;
    tick(&client).await;
    run(&client, "select tidemill.owner_take(1, 0, gen_random_uuid(), 'here', 60000)").await;
    (db, client)
}

/// One flush: its time, and the answers.
async fn write(client: &Client, cold: &Value) -> (i64, Value) {
    let sql = "select (extract(epoch from o_at) * 1000000)::int8, o_answers from tidemill.journal_write(1, 1, 1, null, $1)";
    let row = client.query_one(sql, &[cold]).await.unwrap();
    (row.get(0), row.get(1))
}

/// A lease in the waiting room: when it was written.
async fn lend(client: &Client, job: i64, due_ms: i64, over: Value) -> i64 {
    let mut wait = json!({"job": job, "put": 1, "attempt": 1, "kind": "leased", "due_ms": due_ms, "epoch": 1, "no": job,
                          "nonce": 9, "time": 0, "type": "t", "x1": "{\"timeout_ms\": 5000}"});
    wait.as_object_mut().unwrap().extend(over.as_object().unwrap().clone());
    write(client, &json!({ "wait": [wait] })).await.0
}

fn item(job: i64, ms: i64) -> Value {
    json!({"job": job, "put": 0, "attempt": 1, "epoch": 1, "no": job, "nonce": 9, "ms": ms})
}

async fn extend(client: &Client, items: &[Value]) -> (i64, Vec<i64>) {
    let (at, answers) = write(client, &json!({ "extend": items })).await;
    (at, serde_json::from_value(answers["extend"].clone()).unwrap())
}

/// Which version of the row it is.
async fn version(client: &Client, job: i64) -> String {
    one(client, &format!("select ctid::text from tidemill.waiting where job_id = {job}")).await
}

#[tokio::test]
async fn a_lease_is_extended_to_its_bound_and_no_further() {
    let (_db, client) = queue().await;
    let granted = lend(&client, 1, 1_000, json!({"over_ms": 3_600_000})).await;
    let bound = granted + 3_600_000_000;
    // How many milliseconds are left until then.
    let left = async || {
        let now: i64 = one(&client, "select (extract(epoch from clock_timestamp()) * 1000000)::int8").await;
        (bound - now) / 1_000
    };
    let (at, ends) = extend(&client, &[item(1, left().await - 60_000)]).await;
    assert!(ends[0] > at + 1_000_000 && ends[0] < bound);
    assert_eq!((ends[0] - at) % 1_000, 0, "from the flush");
    let (_, ends) = extend(&client, &[item(1, left().await + 1_000)]).await;
    assert_eq!(ends, [bound]);
    let due: i64 =
        one(&client, "select (extract(epoch from due) * 1000000)::int8 from tidemill.waiting").await;
    assert_eq!(due, bound, "what is answered is what counts");

    // Nothing is left: no row is written.
    let before = version(&client, 1).await;
    assert_eq!(extend(&client, &[item(1, 86_400_000)]).await.1, [bound]);
    assert_eq!(extend(&client, &[item(1, 0)]).await.1, [bound]);
    assert_eq!(version(&client, 1).await, before);
}

#[tokio::test]
async fn the_bound_is_exact() {
    let (_db, client) = queue().await;
    let now: i64 = one(&client, "select (extract(epoch from clock_timestamp()) * 1000000)::int8").await;
    let bound = now + 120_000_000;
    for (job, micros, end) in [(1, -1, bound - 1), (2, 0, bound), (3, 1, bound)] {
        lend(&client, job, 90_000, json!({ "over_at": bound })).await;
        // As journal_write calls it, at a time of ours.
        let sql = format!(
            "select tidemill.waiting_extend(1, 'epoch'::timestamptz + {} * interval '1 microsecond', $1)",
            now + 60_000_000 + micros
        );
        let ends: Value = client.query_one(&sql, &[&json!([item(job, 60_000)])]).await.unwrap().get(0);
        assert_eq!(ends, json!([end]), "{micros}");
    }
}

#[tokio::test]
async fn others_are_extended_as_before() {
    let (_db, client) = queue().await;
    lend(&client, 1, 60_000, json!({})).await;
    lend(&client, 2, 60_000, json!({"over_ms": 90_000})).await;
    // The same lease twice in one flush: the longer one counts, and both hear it.
    let (at, ends) =
        extend(&client, &[item(1, 100_000), item(1, 70_000), item(2, 70_000), item(3, 70_000)]).await;
    assert_eq!(ends, [at + 100_000_000, at + 100_000_000, at + 70_000_000, 0]);
    let before = version(&client, 1).await;
    assert_eq!(extend(&client, &[item(1, 10)]).await.1, [at + 100_000_000], "never shortened");
    assert_eq!(version(&client, 1).await, before);
    let bounds = "select job_id from tidemill.waiting where over_at is null";
    assert_eq!(all::<i64>(&client, bounds).await, [1]);
}

#[tokio::test]
async fn a_row_that_somebody_holds_is_not_waited_for() {
    let (db, client) = queue().await;
    lend(&client, 1, 60_000, json!({"over_ms": 90_000})).await;
    let worker = db.client().await;
    run(&worker, "begin; delete from tidemill.waiting").await;
    assert_eq!(extend(&client, &[item(1, 70_000)]).await.1, [-1]);
    run(&worker, "rollback").await;
}

#[tokio::test]
async fn an_attempt_whose_time_is_over_cannot_be_completed_and_says_so() {
    let (_db, client) = queue().await;
    let now: i64 = one(&client, "select (extract(epoch from clock_timestamp()) * 1000000)::int8").await;
    lend(&client, 1, -1, json!({ "over_at": now - 1_000 })).await;
    lend(&client, 2, -1, json!({"over_ms": 5_000})).await;
    lend(&client, 3, 60_000, json!({"over_ms": 60_000})).await;
    let lease = |job: i64| format!("t-1-1-{job}-{job}-0-1-{:016x}", 9);
    let (code, message) = refused(&client, &format!("select tidemill.complete_job('{}')", lease(1))).await;
    assert_eq!(code, "TM002", "{message}");
    assert_eq!(extend(&client, &[item(1, 60_000)]).await.1, [0], "stale");
    run(&client, &format!("select tidemill.complete_job('{}')", lease(3))).await;
    assert_eq!(one::<i32>(&client, "select tidemill.promote_due(10)").await, 2);
    let said =
        all::<String>(&client, "select reason || ': ' || message from tidemill.failure order by job_id")
            .await;
    // The second one's lease ended long before its time was over.
    assert_eq!(
        said,
        ["expired: the attempt's time of 5000 ms was over", "expired: the lease ended without a result"]
    );
}
