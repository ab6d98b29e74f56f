//! Produce with the header `Idempotency-Key`: the same request again gets the first answer, and inserts nothing.

#![expect(clippy::unwrap_used, reason = "a failure here is the test's")]

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use reqwest::Method;
use serde_json::{Value, json};
use tidemill_common::testing::Service;

use crate::support::{Node, Said, World, said, until};

const JOBS: &str = "/v1/queues/mail/jobs";
const LINES: &str = "application/x-ndjson";

async fn keyed(node: &Node, key: &str, body: &Value) -> Said {
    let request = node.request(Method::POST, JOBS).header("idempotency-key", key).json(body);
    said(request.send().await.unwrap()).await
}

async fn streamed(node: &Node, key: &str, body: impl Into<reqwest::Body>) -> Said {
    let request = node.request(Method::POST, JOBS).header("idempotency-key", key);
    said(request.header("content-type", LINES).body(body).send().await.unwrap()).await
}

async fn in_log(world: &mut World) -> i64 {
    world.count("select count(*) from pgq.event_1").await
}

#[tokio::test]
async fn the_same_request_gets_the_first_answer_from_any_dispatcher() {
    let mut world = World::new(&["mail", "other"]).await;
    let (one, two) = (world.node(&["mail"]).await, world.node(&["other"]).await);
    let jobs = json!({"jobs": [{"type": "a"}, {"type": "b", "delay_ms": 60_000}]});
    let first = keyed(&one, "order-1", &jobs).await;
    assert_eq!((first.status, first.media.as_str()), (201, "application/json"));
    for node in [&one, &two] {
        let again = keyed(node, "order-1", &jobs).await;
        assert_eq!((again.status, &again.media, &again.body), (201, &first.media, &first.body));
    }
    assert_eq!(first.body, json!({"jobs": [{"id": "1"}, {"id": "2"}]}));
    assert_eq!(
        (in_log(&mut world).await, world.count("select count(*) from tidemill.waiting").await),
        (1, 1)
    );

    // Another key, another queue, no key: other requests.
    assert_eq!(keyed(&one, "order-2", &jobs).await.good()["jobs"][0]["id"], "3");
    let elsewhere = one.request(Method::POST, "/v1/queues/other/jobs").header("idempotency-key", "order-1");
    assert_eq!(said(elsewhere.json(&jobs).send().await.unwrap()).await.status, 201);
    assert_eq!(one.post(JOBS, jobs).await.good()["jobs"][0]["id"], "5");
    assert_eq!(world.count("select count(*) from tidemill.idempotency").await, 3);
}

#[tokio::test]
async fn another_body_is_a_conflict_and_a_refused_one_is_no_answer() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    keyed(&node, "k", &json!({"type": "a"})).await.good();
    let detail = keyed(&node, "k", &json!({"type": "b"})).await.problem(409, "conflict");
    assert!(detail.contains("another body"), "{detail}");
    let detail = streamed(&node, "k", "{\"type\":\"a\"}").await.problem(409, "conflict");
    assert!(detail.contains("another body"), "{detail}");
    assert_eq!(in_log(&mut world).await, 1);

    // What came to nothing is not remembered.
    world.run("select pgq.create_queue('plain')").await;
    let path = "/v1/queues/plain/jobs";
    let body = json!({"type": "a"});
    let send = || node.request(Method::POST, path).header("idempotency-key", "p").json(&body).send();
    said(send().await.unwrap()).await.problem(409, "conflict");
    world.run("select tidemill.create_job_queue('plain')").await;
    assert_eq!(said(send().await.unwrap()).await.status, 201);
}

#[tokio::test]
async fn a_key_that_is_none_is_named() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    for (key, why) in [
        ("", "1 to 255 bytes"),
        (&"k".repeat(256), "has 256"),
        ("a b", "visible ASCII"),
        ("é", "visible ASCII"),
    ] {
        let said = keyed(&node, key, &json!({"type": "a"})).await;
        let detail = said.problem(400, "invalid-request");
        assert!(detail.contains(why) || said.body.to_string().contains(why), "{said:?}");
    }
    let twice =
        node.request(Method::POST, JOBS).header("idempotency-key", "a").header("idempotency-key", "b");
    said(twice.json(&json!({"type": "a"})).send().await.unwrap()).await.problem(400, "invalid-request");
    assert_eq!(in_log(&mut world).await, 0);
    let document = node.get("/openapi.json").await.good();
    let parameters = &document["paths"]["/v1/queues/{queue}/jobs"]["post"]["parameters"];
    let header = parameters.as_array().unwrap().iter().find(|one| one["in"] == "header").unwrap();
    assert_eq!((&header["name"], &header["required"]), (&json!("Idempotency-Key"), &json!(false)));
}

#[tokio::test]
async fn a_stream_is_told_the_first_answer_when_it_was_the_same() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    let lines = |n: usize| (0..n).map(|n| format!("{{\"type\":\"t\",\"args\":{n}}}\n")).collect::<String>();
    let first = streamed(&node, "s", lines(2_500)).await.good();
    assert_eq!(first, json!({"inserted": "2500", "first_id": "1", "last_id": "2500"}));
    assert_eq!(streamed(&node, "s", lines(2_500)).await.good(), first);
    // In other pieces, too.
    let text = lines(2_500).into_bytes();
    let pieces: Vec<_> =
        text.chunks(777).map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece))).collect();
    assert_eq!(streamed(&node, "s", reqwest::Body::wrap_stream(stream::iter(pieces))).await.good(), first);
    let detail = streamed(&node, "s", lines(2_501)).await.problem(409, "conflict");
    assert!(detail.contains("another body"), "{detail}");
    assert_eq!(in_log(&mut world).await, 2_500);

    // Of no job there is no answer to keep.
    assert_eq!(streamed(&node, "none", "").await.status, 200);
    assert_eq!(streamed(&node, "none", lines(1)).await.status, 201);
}

#[tokio::test]
async fn while_the_first_is_carried_out_the_second_waits_a_moment() {
    let mut world = World::new(&["mail"]).await;
    let (node, other) = (world.node(&["mail"]).await, world.node(&[]).await);
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let lines: String = (0..1_000).map(|n| format!("{{\"type\":\"t\",\"args\":{n}}}\n")).collect();
    let whole = format!("{lines}{{\"type\":\"last\"}}\n");
    let last = stream::once(async move {
        gone.await.unwrap();
        Ok::<_, std::io::Error>(Bytes::from_static(b"{\"type\":\"last\"}\n"))
    });
    let body = reqwest::Body::wrap_stream(stream::iter([Ok(Bytes::from(lines))]).chain(last));
    let begun = async {
        until("the first has begun", async || {
            let sql = "select count(*) from pg_locks where locktype = 'advisory' and classid = 7465006
                        and database = (select oid from pg_database where datname = current_database())";
            (world.count(sql).await == 1).then_some(())
        })
        .await;
        let begin = std::time::Instant::now();
        let answer = streamed(&other, "k", whole.clone()).await;
        assert!(begin.elapsed() < Duration::from_secs(5), "bounded: {:?}", begin.elapsed());
        assert_eq!((answer.status, answer.retry_after.as_deref()), (409, Some("1")), "{answer:?}");
        assert!(answer.body["detail"].as_str().unwrap().contains("is being carried out"), "{answer:?}");
        // Nor do those who wait at the same dispatcher keep its connections from others.
        let body = json!({"type": "a"});
        let waiting = futures_util::future::join_all((0..20).map(|_| keyed(&node, "k", &body)));
        let (waited, other_key) = tokio::join!(waiting, keyed(&node, "m", &body));
        assert_eq!(other_key.status, 201);
        assert!(waited.iter().all(|said| said.status == 409 && said.retry_after.is_some()), "{waited:?}");
        assert!(begin.elapsed() < Duration::from_secs(5), "together: {:?}", begin.elapsed());
        // Other keys, and none, do not wait.
        assert_eq!(keyed(&other, "l", &json!({"type": "a"})).await.status, 201);
        go.send(()).unwrap();
    };
    let (first, ()) = tokio::join!(streamed(&node, "k", body), begun);
    let first = first.good();
    assert_eq!(first["inserted"], "1001");
    assert_eq!(streamed(&other, "k", whole).await.good(), first);
}

#[tokio::test]
async fn many_at_once_are_one() {
    let mut world = World::new(&["mail"]).await;
    let nodes = [world.node(&["mail"]).await, world.node(&[]).await];
    let body = json!({"type": "a"});
    let calls = (0..20).map(|n| keyed(&nodes[n % 2], "k", &body));
    let said = futures_util::future::join_all(calls).await;
    let ids: Vec<_> = said.into_iter().map(|said| said.good()["jobs"][0]["id"].clone()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(in_log(&mut world).await, 1);
}

#[tokio::test]
async fn a_dispatcher_that_dies_before_its_answer_has_given_it() {
    let mut world = World::new(&["mail"]).await;
    let config = format!("[[databases]]\nname = \"jobs\"\nurl = \"{}\"\n", world.db.url());
    let points = [("FAILPOINTS", "dispatcher.after_produce_commit=return")];
    let mut dispatcher = Service::start("tidemill-dispatcher", &config, &points).await.unwrap();
    let address = format!("http://{}", dispatcher.http_address());
    let body = json!({"type": "a"});
    let client = reqwest::Client::new();
    let lost =
        client.post(format!("{address}{JOBS}")).header("idempotency-key", "k").json(&body).send().await;
    assert!(lost.is_err(), "no answer: {lost:?}");
    assert!(!dispatcher.wait_exit(Duration::from_secs(10)).await.success());
    assert_eq!(in_log(&mut world).await, 1, "it was committed");

    let node = world.node(&["mail"]).await;
    assert_eq!(keyed(&node, "k", &body).await.good()["jobs"][0]["id"], "1");
    assert_eq!(in_log(&mut world).await, 1);
}

#[tokio::test]
async fn after_a_day_a_key_is_new_and_its_answer_is_forgotten_in_portions() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    let body = json!({"type": "a"});
    for (key, id) in [("a", "1"), ("b", "2"), ("c", "3")] {
        assert_eq!(keyed(&node, key, &body).await.good()["jobs"][0]["id"], id);
    }
    let kept = "select count(*) from tidemill.idempotency where until between now() + interval '23 hours' and now() + interval '24 hours'";
    assert_eq!(world.count(kept).await, 3);
    assert_eq!(world.count("select count(*) from tidemill.maintain_tasks() where task = 'forget'").await, 0);
    world.run("update tidemill.idempotency set until = now() where key <> 'c'").await;
    assert_eq!(
        keyed(&node, "a", &json!({"type": "b"})).await.good()["jobs"][0]["id"],
        "4",
        "another body, a new day"
    );
    world.run("update tidemill.idempotency set until = now() where key <> 'c'").await;

    assert_eq!(world.count("select count(*) from tidemill.maintain_tasks() where task = 'forget'").await, 1);
    world.run("select tidemill.hold_ticker('00000000-0000-0000-0000-000000000001', 60000)").await;
    let forget = "select tidemill.ticker_forget(holder, epoch, 1)::int8 from tidemill.ticker_term";
    for count in [1, 1, 0] {
        assert_eq!(world.count(forget).await, count);
    }
    let left = "select count(*) from tidemill.idempotency where key = 'c'";
    assert_eq!(
        (world.count(left).await, world.count("select count(*) from tidemill.idempotency").await),
        (1, 1)
    );
}
