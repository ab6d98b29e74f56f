//! Limits in the database: what is taken for one, what is parked for a key, and the leases of the waiting room.

use serde_json::{Value, json};

use crate::support::{all, database, one, refused, run, tick};

#[tokio::test]
async fn limits_are_those_of_the_api_and_replaced_as_a_whole() {
    let (_db, client) = database().await;
    run(&client, "select tidemill.create_job_queue('q')").await;
    let set = |limits: &str| format!(r#"select tidemill.create_job_queue('q', '{{"limits": {limits}}}')"#);
    let now = "select o_limits from tidemill.dispatch_queues()";
    assert_eq!(one::<Option<Value>>(&client, now).await, None);
    let whole = r#"{"queue": {"leased": 1000000000, "per_second": 0.5}, "types": {"a": {"leased": 1}}, "key": {"leased": 2}}"#;
    run(&client, &set(whole)).await;
    assert_eq!(one::<Value>(&client, now).await, serde_json::from_str::<Value>(whole).expect("it is JSON"));
    run(&client, r#"select tidemill.create_job_queue('q', '{"lease_ms": 2000}')"#).await;
    assert!(one::<Option<Value>>(&client, now).await.is_some(), "absent: as it was");
    run(&client, &set(r#"{"key": {"per_second": 1000000}}"#)).await;
    assert_eq!(one::<Value>(&client, now).await, json!({"key": {"per_second": 1_000_000}}));
    let many: String = (0..101).map(|n| format!(r#""t{n}": {{"leased": 1}},"#)).collect();
    let many = format!(r#"{{"types": {{{}}}}}"#, many.trim_end_matches(','));
    for wrong in [
        "1",
        "[]",
        r#"{"keys": {"leased": 1}}"#,
        r#"{"queue": 1}"#,
        r#"{"queue": {}}"#,
        r#"{"queue": null}"#,
        r#"{"queue": {"leased": 0}}"#,
        r#"{"queue": {"leased": 1.5}}"#,
        r#"{"queue": {"leased": "1"}}"#,
        r#"{"queue": {"leased": 1000000001}}"#,
        r#"{"key": {"per_second": 0}}"#,
        r#"{"key": {"per_second": 1000000.5}}"#,
        r#"{"key": {"most": 1}}"#,
        r#"{"types": [1]}"#,
        r#"{"types": {"": {"leased": 1}}}"#,
        many.as_str(),
    ] {
        assert_eq!(refused(&client, &set(wrong)).await.0, "22023", "{wrong}");
    }
    assert_eq!(one::<Value>(&client, now).await, json!({"key": {"per_second": 1_000_000}}));
    for none in ["{}", r#"{"types": {}}"#] {
        run(&client, &set(r#"{"key": {"leased": 1}}"#)).await;
        run(&client, &set(none)).await;
        assert_eq!(one::<Option<Value>>(&client, now).await, None, "{none}");
    }
}

#[tokio::test]
async fn what_is_parked_for_its_key_comes_back_by_it_alone() {
    let (_db, client) = database().await;
    run(&client, "select tidemill.create_job_queue('q')").await;
    run(&client, "update tidemill.owner set epoch = 1").await;
    let write = async |cold: Value| -> Value {
        let call = format!(
            "select o_answers from tidemill.journal_write(1, 1, nextval('pgq.batch_id_seq'), null, '{cold}')"
        );
        one::<Option<Value>>(&client, &call).await.unwrap_or_default()
    };
    let parked = |job: i64, kind: &str, key: Option<&str>| {
        json!({"job": job, "put": 1, "attempt": 0, "kind": "parked", "due_ms": null, "time": 0, "type": kind,
               "x1": r#"{"key":"x"}"#, "parked_key": key})
    };
    let rows = [
        parked(1, "a", None),
        parked(2, "a", Some("x")),
        parked(3, "b", Some("x")),
        parked(4, "a", Some("y")),
    ];
    write(json!({"wait": rows})).await;
    let types = "select o_type || coalesce(':' || o_key, '') || ' ' || o_count \
                 from tidemill.parked_types(1) order by 1";
    assert_eq!(all::<String>(&client, types).await, [":x 2", ":y 1", "a 1"]);
    let waiting = async || all::<i64>(&client, "select job_id from tidemill.waiting order by 1").await;
    let said = write(json!({"unpark": [{"type": "a", "limit": 10}]})).await;
    assert_eq!((&said["unpark"], waiting().await), (&json!([1]), vec![2, 3, 4]));
    let said = write(
        json!({"unpark": [{"type": "", "key": "x", "limit": 1}, {"type": "", "key": "z", "limit": 1}]}),
    )
    .await;
    assert_eq!((&said["unpark"], waiting().await), (&json!([1, 0]), vec![3, 4]), "the oldest first");
    let said = write(
        json!({"unpark": [{"type": "", "key": "x", "limit": 9}, {"type": "", "key": "y", "limit": 9}]}),
    )
    .await;
    assert_eq!((&said["unpark"], waiting().await), (&json!([1, 1]), vec![]));
    tick(&client).await;
    let kinds = "select count(*) from pgq.event_1 where ev_retry = 1";
    assert_eq!(one::<i64>(&client, kinds).await, 4);
}

#[tokio::test]
async fn leases_of_the_waiting_room_are_told_with_types_and_keys() {
    let (_db, client) = database().await;
    run(&client, "select tidemill.create_job_queue('q')").await;
    run(
        &client,
        "insert into tidemill.waiting (queue_id, job_id, put, kind, due, lease_epoch, lease_no, lease_nonce, ev_time, ev_type, ev_extra1)
         values (1, 1, 1, 'leased', 'infinity', 2, 3, 4, now(), 'a', '{\"key\": \"x\"}'),
                (1, 2, 1, 'leased', '-infinity', 2, 4, 4, now(), null, 'text'),
                (1, 3, 1, 'retry', 'infinity', null, null, null, now(), 'a', null),
                (2, 4, 1, 'leased', 'infinity', 2, 3, 4, now(), 'a', null)",
    )
    .await;
    let all_of_them = "select format('%s %s %s %s %s', o_job, o_epoch, o_no, o_type, o_key) \
                       from tidemill.lent_leases(1) order by o_job";
    assert_eq!(
        all::<String>(&client, all_of_them).await,
        ["1 2 3 a x", "2 2 4  "],
        "also when their end has passed"
    );
    let there = "select o_no from tidemill.still_lent(1, '{1,3,4,9}') order by 1";
    assert_eq!(all::<i64>(&client, there).await, [3]);
}
