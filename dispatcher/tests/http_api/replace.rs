//! Replace: one job is done and others exist instead, in one transaction, inline or streamed.

#![expect(clippy::unwrap_used, reason = "a failure here is the test's")]

use std::time::Duration;

use crate::support::{Node, Said, World, grab, until};
use futures_util::stream;
use serde_json::{Value, json};

async fn replace(node: &Node, job: &Value, jobs: Value) -> Value {
    let item = json!({"lease": job["lease"], "outcome": "replace", "jobs": jobs});
    node.post("/v1/results", json!({"results": [item]})).await.good()["results"][0].clone()
}

async fn stream(node: &Node, job: &Value, body: impl Into<reqwest::Body>) -> Said {
    let path = format!("/v1/leases/{}/replace", job["lease"].as_str().unwrap());
    node.send(&path, "application/x-ndjson", body).await
}

async fn in_log(world: &mut World, queue: i32) -> i64 {
    world.count(&format!("select count(*) from pgq.event_{queue}_0")).await
}

#[tokio::test]
async fn a_job_becomes_others_of_several_queues_and_a_repeat_says_which() {
    let mut world = World::new(&["mail", "other"]).await;
    let node = world.node(&["mail", "other"]).await;
    world.produce("mail", "event", 1).await;
    let job = node.grab(&["mail"]).await.remove(0);
    let jobs = json!([
        {"type": "first", "args": {"n": 1.50, "id": 12345678901234567890123_u128.to_string()}},
        {"type": "elsewhere", "queue": "other"},
        {"type": "later", "delay_ms": 60_000},
        {"type": "second", "max_attempts": 7},
    ]);
    let said = replace(&node, &job, jobs.clone()).await;
    assert_eq!(said["answer"], "ok");
    let ids: Vec<&str> = said["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!(ids, ["2", "1", "3", "4"]);
    assert_eq!(world.count("select count(*) from tidemill.waiting where kind = 'delayed'").await, 1);
    let again = replace(&node, &job, jobs).await;
    assert_eq!((&again["answer"], &again["ids"]), (&json!("already"), &said["ids"]));
    assert_eq!(node.result(&job, "complete").await, "stale", "it was not completed");
    assert_eq!(in_log(&mut world, 2).await, 1, "not inserted twice");

    // Whoever owns the queue next knows it from the journal.
    drop(node);
    until("the queue is free", async || {
        let free = "select count(*) from tidemill.owner where until < clock_timestamp()";
        (world.count(free).await == 2).then_some(())
    })
    .await;
    let node = world.node(&["mail", "other"]).await;
    let again = replace(&node, &job, json!([])).await;
    assert_eq!((&again["answer"], &again["ids"]), (&json!("already"), &said["ids"]));

    world.tick().await;
    let mut jobs = node.grab(&["mail"]).await;
    jobs.extend(node.grab(&["other"]).await);
    let seen: Vec<_> = jobs.iter().map(|job| (job["type"].as_str().unwrap(), &job["max_attempts"])).collect();
    assert_eq!(seen, [("first", &json!(25)), ("second", &json!(7)), ("elsewhere", &json!(25))]);
}

#[tokio::test]
async fn what_cannot_be_inserted_is_refused_and_nothing_else_is_lost() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    world.produce("mail", "event", 4).await;
    let jobs = node.grab(&["mail"]).await;
    let item = |n: usize, new: Value| json!({"lease": jobs[n]["lease"], "outcome": "replace", "jobs": [new]});
    let results = json!({"results": [
        item(0, json!({"type": "a"})),
        item(1, json!({"type": "a", "queue": "nowhere"})),
        item(2, json!({"type": "a", "queue": "nowhere-else"})),
        item(3, json!({"type": "a"})),
    ]});
    let said = node.post("/v1/results", results).await.good();
    let answers: Vec<_> = said["results"].as_array().unwrap().iter().map(|r| &r["answer"]).collect();
    assert_eq!(answers, ["ok", "refused", "refused", "ok"]);
    let why = said["results"][1]["detail"].as_str().unwrap();
    assert!(why.contains("nowhere"), "{why}");
    assert_eq!(in_log(&mut world, 1).await, 6);
    assert_eq!(node.result(&jobs[1], "complete").await, "ok", "its lease is as it was");

    let bad = json!({"results": [item(1, json!({"type": "a", "priority": -1_001}))]});
    node.post("/v1/results", bad).await.fault("/results/0/jobs/0/priority");
}

#[tokio::test]
async fn a_lease_in_the_waiting_room_is_replaced_there() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    world.produce("mail", "event", 1).await;
    let mut wanted = grab(&["mail"], 10_000);
    wanted["transactional"] = json!(true);
    let job = node.post("/v1/grab", wanted).await.good()["jobs"][0].clone();
    let said = replace(&node, &job, json!([{"type": "a"}, {"type": "b"}])).await;
    assert_eq!(said["answer"], "ok");
    let again = replace(&node, &job, json!([{"type": "a"}, {"type": "b"}])).await;
    assert_eq!((&again["answer"], &again["ids"]), (&json!("already"), &said["ids"]));
    assert_eq!((in_log(&mut world, 1).await, said["ids"].as_array().unwrap().len()), (3, 2));
    assert_eq!(world.count("select count(*) from tidemill.waiting").await, 0);
}

#[tokio::test]
async fn a_stream_replaces_by_any_number_and_others_go_on_meanwhile() {
    const JOBS: usize = 20_000;
    let mut world = World::new(&["mail", "other"]).await;
    let node = world.node(&["mail", "other"]).await;
    world.produce("mail", "event", 2).await;
    let jobs = node.grab(&["mail"]).await;
    let line = |n: usize| {
        let queue = if n.is_multiple_of(10) { ",\"queue\":\"other\"" } else { "" };
        Ok::<_, std::io::Error>(format!("{{\"type\":\"notify\",\"args\":{n}{queue}}}\n"))
    };
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    // The last line arrives when the other job was completed.
    let last = stream::once(async move {
        gone.await.unwrap();
        line(JOBS - 1)
    });
    let lines = futures_util::StreamExt::chain(stream::iter((0..JOBS - 1).map(line)), last);
    let streaming = stream(&node, &jobs[0], reqwest::Body::wrap_stream(lines));
    let meanwhile = async {
        assert_eq!(node.result(&jobs[1], "complete").await, "ok");
        go.send(()).unwrap();
    };
    let (said, ()) = tokio::join!(streaming, meanwhile);
    assert_eq!(said.good(), json!({"answer": "ok", "inserted": JOBS.to_string()}));
    assert_eq!(in_log(&mut world, 1).await, 2 + JOBS as i64 * 9 / 10);
    assert_eq!(in_log(&mut world, 2).await, JOBS as i64 / 10);

    let again = stream(&node, &jobs[0], "{\"type\":\"notify\"}\n").await.good();
    assert_eq!(again, json!({"answer": "already", "inserted": JOBS.to_string()}));
    stream(&node, &jobs[1], "{\"type\":\"notify\"}\n").await.problem(409, "stale-lease");
    assert_eq!(in_log(&mut world, 2).await, JOBS as i64 / 10);

    drop(node);
    until("the queue is free", async || {
        let free = "select count(*) from tidemill.owner where until < clock_timestamp()";
        (world.count(free).await == 2).then_some(())
    })
    .await;
    let node = world.node(&["mail", "other"]).await;
    let again = stream(&node, &jobs[0], "{\"type\":\"notify\"}\n").await.good();
    assert_eq!(again, json!({"answer": "already", "inserted": JOBS.to_string()}), "the journal knows");
}

#[tokio::test]
async fn a_stream_that_fails_inserts_nothing_and_leaves_the_lease() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    world.produce("mail", "event", 1).await;
    let job = node.grab(&["mail"]).await.remove(0);
    let good = "{\"type\":\"a\"}\n".repeat(1_500);
    let said = stream(&node, &job, format!("{good}{{\"type\":\"\"}}\n")).await;
    said.fault("/1500/type");
    let said = stream(&node, &job, format!("{good}nonsense\n")).await;
    said.fault("/1500");
    let said = stream(&node, &job, format!("{good}{{\"type\":\"a\",\"queue\":\"nowhere\"}}\n")).await;
    assert!(said.fault("/1000").contains("in lines 1000 to 1500"), "{said:?}");

    // The client hangs up in the middle.
    let (piece, pieces) = tokio::sync::mpsc::channel::<Result<String, std::io::Error>>(1);
    let body = stream::unfold(pieces, async |mut pieces| Some((pieces.recv().await?, pieces)));
    let path = format!("/v1/leases/{}/replace", job["lease"].as_str().unwrap());
    let request = node.request(reqwest::Method::POST, &path).header("content-type", "application/x-ndjson");
    let call = request.body(reqwest::Body::wrap_stream(body)).send();
    let hang_up = async {
        piece.send(Ok(good.clone())).await.unwrap();
        until("a transaction is open", async || {
            let open = "select count(*) from pg_stat_activity where state = 'idle in transaction' \
                        and datname = current_database()";
            (world.count(open).await == 1).then_some(())
        })
        .await;
        piece.send(Err(std::io::Error::other("gone"))).await.unwrap();
    };
    let (said, ()) = tokio::join!(call, hang_up);
    assert!(said.is_err());

    assert_eq!(in_log(&mut world, 1).await, 1, "nothing was inserted");
    let said = stream(&node, &job, "{\"type\":\"a\"}\n").await.good();
    assert_eq!(said, json!({"answer": "ok", "inserted": "1"}), "the lease is as it was");
}

#[tokio::test]
async fn a_lease_that_ends_while_its_stream_arrives_is_stale_and_nothing_is_inserted() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    world.produce("mail", "event", 1).await;
    let mut wanted = grab(&["mail"], 10_000);
    wanted["lease_ms"] = json!(1_000);
    let job = node.post("/v1/grab", wanted).await.good()["jobs"][0].clone();
    let (piece, pieces) = tokio::sync::mpsc::channel::<Result<String, std::io::Error>>(1);
    let body = stream::unfold(pieces, async |mut pieces| Some((pieces.recv().await?, pieces)));
    let wait = async {
        piece.send(Ok("{\"type\":\"a\"}\n".repeat(1_500))).await.unwrap();
        until("the lease has ended", async || {
            let ended = "select count(*) from tidemill.waiting where due < clock_timestamp()";
            (world.count(ended).await == 1).then_some(())
        })
        .await;
        drop(piece);
    };
    let (said, ()) = tokio::join!(stream(&node, &job, reqwest::Body::wrap_stream(body)), wait);
    said.problem(409, "stale-lease");
    assert_eq!(in_log(&mut world, 1).await, 1);
}

#[tokio::test]
async fn a_stream_goes_to_the_owner() {
    let mut world = World::new(&["a", "b"]).await;
    let owner = world.node(&["b"]).await;
    let mut other = world.node(&["a"]).await;
    other.look(&mut world).await;
    world.produce("b", "event", 1).await;
    let job = owner.grab(&["b"]).await.remove(0);
    let said = tokio::time::timeout(
        Duration::from_secs(20),
        stream(&other, &job, "{\"type\":\"x\"}\n".repeat(3_000)),
    );
    assert_eq!(said.await.unwrap().good(), json!({"answer": "ok", "inserted": "3000"}));
    stream(&other, &json!({"lease": "nonsense"}), "{\"type\":\"x\"}\n").await.problem(409, "stale-lease");
    let wrong = other.send("/v1/leases/x/replace", "application/json", "{}").await;
    wrong.problem(415, "unsupported-media-type");
}
