//! Unique keys in the database: who is kept out, who waits for whom, and which ends free a key.

#![expect(clippy::unwrap_used, reason = "a failure here is the test's")]

use std::time::Duration;

use serde_json::{Value, json};
use tidemill_common::lease::Lease;
use tidemill_common::testing::{TestDb, wait_for};
use tokio_postgres::Client;

use crate::support::{all, database, one, refused, run};

/// Job queues `q` (id 1) and `r` (id 2) with owners of epoch 1.
async fn queues() -> (TestDb, Client) {
    let (db, client) = database().await;
    run(&client, "select tidemill.create_job_queue('q'), tidemill.create_job_queue('r')").await;
    for queue in 1..=2 {
        let take = format!("select tidemill.owner_take({queue}, 0, gen_random_uuid(), 'here', 60000)");
        run(&client, &take).await;
    }
    (db, client)
}

const INSERT: &str = "select tidemill.insert_job('q', 't', null, '{\"unique\": {\"key\": \"k\"}}')";

/// Inserts a job with the key `k`.
async fn insert(client: &Client) -> i64 {
    one::<String>(client, INSERT).await.parse().unwrap()
}

/// Every key of `q` with its job.
async fn held(client: &Client) -> Vec<String> {
    all(client, "select key || '=' || job_id from tidemill.unique_key where queue_id = 1 order by 1").await
}

/// One flush; the answers.
async fn write(client: &Client, cold: &Value) -> Value {
    let sql = "select o_answers from tidemill.journal_write(1, 1, 1, null, $1)";
    client.query_one(sql, &[cold]).await.unwrap().get(0)
}

fn lease(job: i64) -> Lease {
    Lease { queue_id: 1, epoch: 1, number: job, job, put: 0, attempt: 1, nonce: 9, transactional: true }
}

/// A new job with the key `k`, in the waiting room, with its first lease of `max_attempts`.
async fn lend(client: &Client, max_attempts: i32) -> i64 {
    let job = insert(client).await;
    let options = json!({"unique": {"key": "k"}, "max_attempts": max_attempts}).to_string();
    let wait = json!({"job": job, "put": 1, "attempt": 1, "kind": "leased", "due_ms": 60_000, "epoch": 1, "no": job,
                      "nonce": 9, "time": 0, "type": "t", "x1": options});
    write(client, &json!({ "wait": [wait] })).await;
    job
}

fn finish(job: i64, outcome: &str) -> Value {
    json!({"job": job, "put": 0, "attempt": 1, "epoch": 1, "no": job, "nonce": 9, "delay_ms": 0, "message": "no luck",
           "outcome": outcome})
}

/// Waits until somebody waits for a transaction of this database.
async fn somebody_waits(client: &Client) {
    let sql = "select exists (select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')";
    wait_for("somebody waits", Duration::from_secs(10), async || {
        one::<bool>(client, sql).await.then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_second_copy_is_kept_out_and_named() {
    let (_db, client) = queues().await;
    let jobs = r#"'[{"type": "a"}, {"type": "t", "options": {"unique": {"key": "k"}}}, {"type": "b"},
                    {"type": "t", "options": {"unique": {"key": "k", "scope": "unfinished"}}},
                    {"type": "t", "options": {"delay_ms": 60000, "unique": {"key": "later"}}},
                    {"type": "t", "options": {"unique": null}}]'"#;
    let ids: Vec<String> = all(&client, &format!("select tidemill.insert_jobs('q', {jobs})")).await;
    assert_eq!(ids[1], ids[3], "also within one call");
    assert_eq!(held(&client).await, [format!("k={}", ids[1]), format!("later={}", ids[4])]);
    let log: Vec<String> = all(&client, "select ev_id::text from pgq.event_1 order by ev_id").await;
    let mut expected = vec![ids[0].clone(), ids[1].clone(), ids[2].clone(), ids[5].clone()];
    expected.sort();
    assert_eq!(log, expected);
    assert_eq!(one::<String>(&client, "select job_id::text from tidemill.waiting").await, ids[4]);

    let sequence: i64 = one(&client, "select last_value from pgq.event_1_id_seq").await;
    let again = format!("select duplicate from tidemill.insert_unique_jobs('q', {jobs})");
    assert_eq!(all::<bool>(&client, &again).await, [false, true, false, true, true, false]);
    assert_eq!(insert(&client).await.to_string(), ids[1]);
    let moved: i64 = one(&client, "select last_value from pgq.event_1_id_seq").await;
    assert_eq!(moved - sequence, 3, "a duplicate takes no id");
    run(&client, "select tidemill.insert_job('r', 't', null, '{\"unique\": {\"key\": \"k\"}}')").await;
    assert_eq!(one::<i64>(&client, "select count(*) from tidemill.unique_key where key = 'k'").await, 2);

    for bad in [
        r#""k""#,
        r#"{"key": 5}"#,
        r#"{"key": ""}"#,
        r#"{"key": "k", "scope": "day"}"#,
        r#"{"key": "k", "for": 1}"#,
    ] {
        let (state, message) =
            refused(&client, &format!("select tidemill.insert_job('q', 't', null, '{{\"unique\": {bad}}}')"))
                .await;
        assert_eq!(
            (state.as_str(), message.contains("\"unique\" must be")),
            ("22023", true),
            "{bad}: {message}"
        );
    }
    let free = "select tidemill.free_unique_key('q', 'k')";
    assert_eq!(one::<Option<String>>(&client, free).await.as_ref(), Some(&ids[1]), "by hand");
    assert_eq!(one::<Option<String>>(&client, free).await, None);
    assert_ne!(insert(&client).await.to_string(), ids[1]);
    run(&client, "select pgq.drop_queue('q', true)").await;
    assert_eq!(held(&client).await, [""; 0], "a queue takes its keys along");
}

#[tokio::test]
async fn the_second_of_two_transactions_hears_what_became_of_the_first() {
    let (db, first) = queues().await;
    let (second, watcher) = (db.client().await, db.client().await);
    for end in ["rollback", "commit"] {
        run(&first, "begin").await;
        let there = insert(&first).await;
        let (told, ()) = tokio::join!(insert(&second), async {
            somebody_waits(&watcher).await;
            run(&first, end).await;
        });
        assert_eq!(told == there, end == "commit", "{end}");
        if end == "rollback" {
            assert_eq!(held(&first).await, [format!("k={told}")]);
            write(&first, &json!({ "release": [told] })).await;
            assert_eq!(held(&first).await, [""; 0]);
        }
    }
    // What a savepoint takes back is free again in the same transaction.
    run(&first, "delete from tidemill.unique_key; begin; savepoint s").await;
    insert(&first).await;
    run(&first, "rollback to s").await;
    let there = insert(&first).await;
    run(&first, "commit").await;
    assert_eq!(held(&first).await, [format!("k={there}")]);
}

#[tokio::test]
async fn an_open_transaction_is_not_waited_for_long() {
    let (db, client) = queues().await;
    let open = db.client().await;
    run(&open, "begin").await;
    insert(&open).await;
    let (state, message) = refused(&client, INSERT).await;
    assert_eq!(state, "55P03");
    assert_eq!(
        message,
        "another transaction has the unique key \"k\" of queue \"q\" and is still open: repeat this later"
    );
    assert_eq!(one::<String>(&client, "show lock_timeout").await, "0", "it is as it was");
    // The caller's own limit counts if it is shorter; and everybody waits for an owner's flush.
    let took = |statement: &str| {
        let sql = format!(
            "do $$ declare v_at timestamptz := clock_timestamp(); begin begin {statement}; \
                           exception when lock_not_available or invalid_parameter_value then null; end; \
                           if clock_timestamp() - v_at > interval '900 ms' then raise 'it waited'; end if; end $$"
        );
        sql
    };
    run(&client, "set lock_timeout = '20ms'").await;
    run(&client, &took(&INSERT.replacen("select", "perform", 1))).await;
    run(&client, "reset lock_timeout").await;
    let child = r#"{"insert": [{"job": 99, "jobs": [{"type": "t", "options": {"unique": {"key": "k"}}}]}]}"#;
    run(&client, &took(&format!("perform tidemill.journal_write(1, 1, 1, null, '{child}')"))).await;
    let (state, _) =
        refused(&client, &format!("select tidemill.journal_write(1, 1, 1, null, '{child}')")).await;
    assert_eq!(state, "22023", "the one result is refused, not the flush lost");
    run(&open, "rollback").await;
    insert(&client).await;
}

#[tokio::test]
async fn the_ends_of_a_job_free_its_key_and_nothing_else_does() {
    let (_db, client) = queues().await;
    for (outcome, attempts) in [("complete", 9), ("perm_fail", 9), ("temp_fail", 1)] {
        let job = lend(&client, attempts).await;
        assert_eq!(insert(&client).await, job, "while it is leased");
        assert_eq!(write(&client, &json!({"finish": [finish(job, outcome)]})).await["finish"], json!(["ok"]));
        assert_eq!(held(&client).await, [""; 0], "{outcome}");
    }
    for outcome in ["temp_fail", "decline"] {
        let job = lend(&client, 9).await;
        write(&client, &json!({"finish": [finish(job, outcome)]})).await;
        assert_eq!(insert(&client).await, job, "{outcome}: it waits");
        assert_eq!(one::<i32>(&client, "select tidemill.promote_due(10)").await, 1);
        assert_eq!(insert(&client).await, job, "{outcome}: it is in the log again");
        write(&client, &json!({ "release": [job] })).await;

        let job = lend(&client, 9).await;
        let mut item = finish(job, outcome);
        item["cancel"] = json!(7);
        assert_eq!(write(&client, &json!({ "finish": [item] })).await["finish"], json!(["cancelled"]));
        assert_eq!(held(&client).await, [""; 0], "{outcome} of a job that is being cancelled");
    }
    let job = lend(&client, 9).await;
    let cancel = json!({"cancel": [{"job": job, "code": 7}]});
    write(&client, &cancel).await;
    assert_eq!(held(&client).await, [format!("k={job}")], "its worker decides");
    write(&client, &json!({"finish": [finish(job, "temp_fail")]})).await;
    write(&client, &cancel).await;
    assert_eq!(held(&client).await, [""; 0], "cancelled while it waited");
}

#[tokio::test]
async fn a_worker_frees_the_key_in_its_own_transaction() {
    let (_db, client) = queues().await;
    let job = lend(&client, 9).await;
    run(&client, "begin").await;
    assert_eq!(insert(&client).await, job);
    run(&client, &format!("select tidemill.complete_job('{}')", lease(job))).await;
    assert_ne!(insert(&client).await, job, "a new one, behind the end of the old one");
    run(&client, "rollback").await;
    assert_eq!(insert(&client).await, job, "nothing of it happened");
    run(&client, &format!("select tidemill.complete_job('{}')", lease(job))).await;
    assert_eq!(held(&client).await, [""; 0]);
}

#[tokio::test]
async fn a_job_is_replaced_by_one_with_the_same_key() {
    let (_db, client) = queues().await;
    let child = json!({"type": "t", "options": {"unique": {"key": "k"}}});
    let job = lend(&client, 9).await;
    let mut item = finish(job, "replace");
    item["jobs"] = json!([child, child]);
    let ids = write(&client, &json!({ "finish": [item] })).await["finish"][0]["ids"].clone();
    let heir = ids[0].as_i64().unwrap();
    assert!(heir != job && ids[1] == heir, "{ids}");
    assert_eq!(held(&client).await, [format!("k={heir}")]);

    // From the window: its key is released in the flush that inserts the jobs.
    let cold = json!({"release": [heir], "insert": [{"job": heir, "jobs": [child]}]});
    let next = write(&client, &cold).await["insert"][0][0].as_i64().unwrap();
    assert_ne!(next, heir);
    write(&client, &json!({ "release": [next] })).await;

    // Streamed: the row of the lease decides, at the end.
    let stream = format!("select tidemill.stream_jobs(1, '{}', $1)", json!([child, {"type": "u"}, child]));
    let end = |job: i64| format!("select tidemill.finish_stream(1, 1, '{}', 3)", lease(job));
    let job = lend(&client, 9).await;
    run(&client, "begin").await;
    assert_eq!(client.query_one(&stream, &[&job]).await.unwrap().get::<_, i32>(0), 3);
    assert_eq!(held(&client).await, [format!("k={job}")]);
    run(&client, &format!("{}; commit", end(job))).await;
    let heir: i64 = one(&client, "select max(ev_id) from pgq.event_1 where ev_extra1 is not null").await;
    assert!(heir > job);
    assert_eq!(held(&client).await, [format!("k={heir}")]);
    write(&client, &json!({ "release": [heir] })).await;

    let job = lend(&client, 9).await;
    run(
        &client,
        &format!(
            "begin; select tidemill.stream_jobs(1, '[{{\"type\": \"u\"}}]', {job}); {}; commit",
            end(job)
        ),
    )
    .await;
    assert_eq!(held(&client).await, [""; 0]);
}

#[tokio::test]
async fn a_dead_letter_lives_again_only_if_its_key_is_free() {
    let (db, client) = queues().await;
    let dead = |job: i64, key: Option<&str>| {
        let x1 = key.map(|key| json!({"unique": {"key": key}}).to_string());
        json!({"job": job, "put": 0, "attempt": 1, "reason": "perm_fail", "message": "", "time": job, "type": "t", "x1": x1})
    };
    let letters = [dead(101, Some("k")), dead(102, Some("k")), dead(103, None), dead(104, Some("l"))];
    write(&client, &json!({ "dead": letters })).await;
    let redrive = async |limit: i32| {
        let sql = format!("select tidemill.redrive_dead(1, null, null, clock_timestamp(), {limit})");
        one::<i32>(&client, &sql).await
    };
    let left = async || all::<i64>(&client, "select job_id from tidemill.dead order by 1").await;

    let open = db.client().await;
    run(&open, "begin").await;
    let job = insert(&open).await;
    assert_eq!(redrive(1).await, 1, "who comes in the place of the two that stay");
    assert_eq!(left().await, [101, 102, 104]);
    run(&open, "commit").await;
    assert_eq!(redrive(10).await, 1);
    assert_eq!(
        (left().await, held(&client).await),
        (vec![101, 102], vec![format!("k={job}"), "l=104".to_owned()])
    );
    assert_eq!(redrive(10).await, 0, "they stay as long as the key is held");
    write(&client, &json!({ "release": [job, 104] })).await;
    assert_eq!(redrive(10).await, 1);
    assert_eq!((left().await, held(&client).await), (vec![102], vec!["k=101".to_owned()]));
    assert_eq!(insert(&client).await, 101);
}
