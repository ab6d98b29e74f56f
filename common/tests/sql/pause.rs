//! Pausing in the database: what is remembered, and what of the parked jobs comes back meanwhile.

use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::support::{all, database, one, refused, run, tick};

async fn pause(client: &Client, what: &str) -> Value {
    one(client, &format!("select tidemill.pause_queue(1, {what})")).await
}

#[tokio::test]
async fn each_is_paused_by_itself_and_every_change_is_numbered() {
    let (_db, client) = database().await;
    run(&client, "select tidemill.create_job_queue('q'); select tidemill.create_job_queue('other')").await;
    let seen = "select o_paused from tidemill.dispatch_queues() where o_queue = 'q'";
    assert_eq!(one::<Option<Value>>(&client, seen).await, None, "it costs nothing before");
    let now = |no: i64, queue: bool, types: &[&str], keys: &[&str]| json!({"no": no, "queue": queue, "types": types, "keys": keys});
    assert_eq!(pause(&client, "'{b,a}', '{k}', true").await, now(1, false, &["a", "b"], &["k"]));
    assert_eq!(pause(&client, "null, null, true").await, now(2, true, &["a", "b"], &["k"]));
    assert_eq!(pause(&client, "'{a,c}', null, false").await, now(3, true, &["b"], &["k"]));
    assert_eq!(pause(&client, "null, null, false").await, now(4, false, &["b"], &["k"]));
    assert_eq!(one::<Option<Value>>(&client, seen).await, Some(now(4, false, &["b"], &["k"])));
    let other: Value = one(&client, "select tidemill.dispatch_paused(2)").await;
    assert_eq!(other, now(0, false, &[], &[]));

    assert_eq!(one::<Option<Value>>(&client, "select tidemill.dispatch_paused(3)").await, None);
    assert_eq!(refused(&client, "select tidemill.pause_queue(3, null, null, true)").await.0, "TM004");
    let many =
        "select tidemill.pause_queue(1, null, array(select 'k' || n from generate_series(1, 1000) n), true)";
    assert_eq!(refused(&client, many).await.0, "54000", "with the one that is paused there are too many");
    assert_eq!(one::<i64>(&client, "select count(*) from tidemill.paused").await, 2);
    run(&client, "select pgq.drop_queue('q', true)").await;
    assert_eq!(one::<i64>(&client, "select count(*) from tidemill.paused").await, 0);
}

#[tokio::test]
async fn parked_jobs_with_a_paused_key_stay() {
    let (_db, client) = database().await;
    run(&client, "select tidemill.create_job_queue('q')").await;
    tick(&client).await;
    run(&client, "select tidemill.owner_take(1, 0, gen_random_uuid(), 'here', 60000)").await;
    let write = async |cold: Value| -> Value {
        let sql = "select o_answers from tidemill.journal_write(1, 1, 1, null, $1)";
        client.query_one(sql, &[&cold]).await.unwrap().get(0)
    };
    let parked = |job: i64, extra1: Option<&str>| json!({"job": job, "put": 1, "attempt": 0, "kind": "parked", "time": 0, "type": "t", "x1": extra1});
    let wait = [
        parked(1, Some(r#"{"key":"x"}"#)),
        parked(2, Some(r#"{"key":"y"}"#)),
        parked(3, None),
        parked(4, Some(r#"{"key": broken"#)),
        parked(5, Some(r#"{"coalesce_key":"x"}"#)),
    ];
    write(json!({ "wait": wait })).await;
    let answers = write(json!({"unpark": [{"type": "t", "limit": 3, "without": ["x"]}]})).await;
    assert_eq!(answers["unpark"], json!([3]));
    let waiting = async || all::<i64>(&client, "select job_id from tidemill.waiting order by 1").await;
    assert_eq!(waiting().await, [1, 5]);
    write(json!({"unpark": [{"type": "t", "limit": 3, "without": ["x"]}]})).await;
    assert_eq!(waiting().await, [1]);
    write(json!({"unpark": [{"type": "t", "limit": 3}]})).await;
    assert_eq!(waiting().await, [0; 0]);
}
