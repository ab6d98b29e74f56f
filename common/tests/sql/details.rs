//! What a done job left in the journal, and what its details tell of it.

#![expect(clippy::unwrap_used, reason = "a failure here is the test's")]

use serde_json::{Value, json};
use tidemill_common::schema;
use tidemill_common::testing::TestDb;
use tokio_postgres::Client;

use crate::support::{database, one, rows, run, tick};

/// A job queue `q` (id 1) with an owner of epoch 1 and so many jobs, read up to the last tick, and another one.
async fn jobs(count: i32) -> (TestDb, Client) {
    let (db, client) = database().await;
    run(&client, "select tidemill.create_job_queue('q'); select tidemill.create_job_queue('other')").await;
    run(&client, &format!("select tidemill.insert_job('q', 't') from generate_series(1, {count})")).await;
    tick(&client).await;
    run(&client, "select tidemill.owner_take(1, 0, gen_random_uuid(), 'here', 60000)").await;
    (db, client)
}

async fn write(client: &Client, seq: i64, cold: &Value) {
    let sql = "select tidemill.journal_write(1, 1, $1, '\\x02', $2)";
    client.execute(sql, &[&seq, cold]).await.unwrap();
}

async fn details(client: &Client, job: i64) -> Value {
    let sql = "select tidemill.job_details(1, $1, (select max(tick_id) from pgq.tick where tick_queue = 1))";
    client.query_one(sql, &[&job]).await.unwrap().get(0)
}

/// State, result and children of a job.
async fn end(client: &Client, job: i64) -> (String, Option<String>, Option<Vec<(String, String)>>) {
    let details = details(client, job).await;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let child = |child: &Value| (text(&child["queue"]).unwrap(), text(&child["id"]).unwrap());
    let children = details["children"].as_array().map(|all| all.iter().map(child).collect());
    (text(&details["state"]).unwrap(), text(&details["result"]), children)
}

fn mine(ids: impl IntoIterator<Item = i64>) -> Option<Vec<(String, String)>> {
    Some(ids.into_iter().map(|id| ("q".to_owned(), id.to_string())).collect())
}

#[tokio::test]
async fn results_and_children_of_one_flush_are_told_apart() {
    let (_db, client) = jobs(6).await;
    let odd = r#"{"n": 1.50, "nul": "\u0000", "n": 2}"#;
    let cold = json!({
        "insert": [{"job": 1, "jobs": [{"type": "a"}, {"type": "b", "queue": "other"}]}, {"job": 3, "jobs": []},
                   {"job": 4, "jobs": [{"type": "a"}]}, {"jobs": [{"type": "an older dispatcher's"}]}],
        "result": [{"job": 2, "result": odd}, {"job": 5, "result": "null"}]});
    write(&client, 1, &cold).await;
    let ids = [("q".to_owned(), "7".to_owned()), ("other".to_owned(), "1".to_owned())];
    assert_eq!(end(&client, 1).await, ("replaced".to_owned(), None, Some(ids.to_vec())));
    assert_eq!(end(&client, 2).await, ("done".to_owned(), Some(odd.to_owned()), None), "as it came");
    assert_eq!(end(&client, 3).await, ("replaced".to_owned(), None, Some(vec![])));
    assert_eq!(end(&client, 4).await, ("replaced".to_owned(), None, mine([8])));
    assert_eq!(end(&client, 5).await, ("done".to_owned(), Some("null".to_owned()), None));
    assert_eq!(end(&client, 6).await, ("done".to_owned(), None, None));
    assert_eq!(details(&client, 1).await["attempt"], 1);
    let unowned: Value = one(&client, "select tidemill.job_details(1, 1, null)").await;
    assert_eq!(unowned["state"], "replaced", "the journal knows it, also while nobody owns the queue");
    let unowned: Value = one(&client, "select tidemill.job_details(1, 6, null)").await;
    assert_eq!(unowned["state"], "unknown");
}

#[tokio::test]
async fn what_the_waiting_room_took_is_told_too_and_what_it_did_not_is_not() {
    let (_db, client) = jobs(4).await;
    let wait = |job: i64| {
        json!({"job": job, "put": 1, "attempt": 1, "kind": "leased", "due_ms": 60_000, "epoch": 1,
                                 "no": job, "nonce": 9, "time": 0, "type": "t"})
    };
    write(&client, 1, &json!({"wait": [wait(1), wait(2), wait(3)]})).await;
    let finish = |job: i64, nonce: i64, end: Value| {
        let mut item =
            json!({"job": job, "put": 0, "attempt": 1, "epoch": 1, "no": job, "nonce": nonce, "delay_ms": 0});
        item.as_object_mut().unwrap().append(&mut end.as_object().unwrap().clone());
        item
    };
    let complete = |result: &str| json!({"outcome": "complete", "result": result});
    let replace = json!({"outcome": "replace", "jobs": [{"type": "a"}, {"type": "a"}]});
    let cold = json!({
        "insert": [{"job": 4, "jobs": [{"type": "a"}]}],
        "finish": [finish(1, 8, complete("\"forged\"")), finish(2, 9, complete("7")), finish(1, 9, replace)]});
    write(&client, 2, &cold).await;
    assert_eq!(end(&client, 1).await, ("replaced".to_owned(), None, mine([6, 7])));
    assert_eq!(end(&client, 2).await, ("done".to_owned(), Some("7".to_owned()), None));
    assert_eq!(end(&client, 3).await.0, "leased");
    assert_eq!(end(&client, 4).await, ("replaced".to_owned(), None, mine([5])));
}

#[tokio::test]
async fn of_a_stream_the_first_thousand_are_told() {
    let (_db, client) = jobs(2).await;
    let row = "insert into tidemill.waiting (queue_id, job_id, put, attempt, kind, due, lease_epoch, lease_no, lease_nonce, \
               ev_time) select 1, n, 1, 1, 'leased', clock_timestamp() + '1 minute', 1, n, 9, now() from generate_series(1, 2) n";
    run(&client, row).await;
    let lease = |job: i64| format!("l-1-1-{job}-{job}-0-1-0000000000000009");
    let piece = "select tidemill.stream_jobs(1, (select jsonb_agg('{\"type\": \"a\"}'::jsonb) from generate_series(1, 600)))";
    let last = "select tidemill.stream_jobs(1, '[{\"type\": \"b\", \"queue\": \"other\"}]')";
    let finish = format!("select tidemill.finish_stream(1, 1, '{}', 1201)", lease(1));
    run(&client, &format!("begin; {piece}; {last}; {piece}; {finish}; commit")).await;
    let (state, result, children) = end(&client, 1).await;
    assert_eq!((state.as_str(), result), ("replaced", None));
    let children = children.unwrap();
    assert_eq!(children.len(), 1_000);
    assert_eq!(
        children[599..602],
        [("q", "602"), ("other", "1"), ("q", "603")].map(|(q, id)| (q.into(), id.into()))
    );

    // The next one in the same session has children of its own, or none.
    run(&client, &format!("begin; select tidemill.finish_stream(1, 1, '{}', 0); commit", lease(2))).await;
    assert_eq!(end(&client, 2).await, ("replaced".to_owned(), None, Some(vec![])));
}

#[tokio::test]
async fn a_flush_without_result_writes_no_note_and_a_look_reads_by_the_index() {
    let (_db, client) = jobs(1).await;
    write(&client, 1, &json!({"fail": [{"job": 1, "attempt": 1, "reason": "expired", "message": ""}]})).await;
    run(&client, "select tidemill.journal_write(1, 1, 2, '\\x02', null)").await;
    assert_eq!(
        one::<i64>(&client, "select count(*) from tidemill.journal_1_0 where j_note is null").await,
        2
    );

    run(&client, "set enable_seqscan = off").await; // as job_details does
    let look = "explain (format json) select j_note from tidemill.journal_1_0 where j_note ? 'jobs' and j_note -> 'jobs' ? '1'";
    let plan: Value = one(&client, look).await;
    assert!(plan.to_string().contains("\"journal_1_0_jobs_idx\""), "{plan}");
    let source: String = one(&client, "select prosrc from pg_proc where proname = 'job_outcome'").await;
    assert!(source.contains("where j_note ? ''jobs'' and j_note -> ''jobs'' ? $1"), "the same condition");
}

#[tokio::test]
async fn the_journals_of_older_queues_get_the_index() {
    let (db, client) = jobs(1).await;
    let index = "select 1 from pg_class where relname = 'journal_1_2_jobs_idx'";
    run(
        &client,
        "drop index tidemill.journal_1_2_jobs_idx; delete from tidemill.migration where version = 13",
    )
    .await;
    assert_eq!(rows(&client, index).await, 0);
    schema::install(&mut db.session("test"), &schema::InstallOptions::default()).await.expect("upgraded");
    assert_eq!(rows(&client, index).await, 1);
}
