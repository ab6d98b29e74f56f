//! Limits of a queue: so many jobs leased at once, so many a second; of the queue, a type, each key.

#![expect(clippy::unwrap_used, reason = "a failure here is the test's")]

use std::collections::HashMap;

use crate::support::{Node, World, grab, until};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

/// A queue with these limits, and its owner.
async fn limited(limits: Value) -> (World, Node) {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&[]).await;
    node.put("/v1/queues/mail", json!({ "limits": limits })).await.good();
    drop(node);
    let node = world.node(&["mail"]).await;
    (world, node)
}

async fn produce(world: &mut World, node: &Node, jobs: impl IntoIterator<Item = Value>) {
    let jobs: Vec<Value> = jobs.into_iter().collect();
    node.post("/v1/queues/mail/jobs", json!({ "jobs": jobs })).await.good();
    world.tick().await;
}

fn job(kind: &str, key: &str) -> Value {
    json!({"type": kind, "key": key})
}

/// The jobs of a grab for so many.
async fn grabbed(node: &Node, max: u32, wait_ms: u64) -> Vec<Value> {
    let mut wanted = grab(&["mail"], wait_ms);
    wanted["max"] = json!(max);
    node.post("/v1/grab", wanted).await.good()["jobs"].as_array().unwrap().clone()
}

async fn transactional(node: &Node, max: u32, wait_ms: u64) -> Vec<Value> {
    let mut wanted = grab(&["mail"], wait_ms);
    (wanted["max"], wanted["transactional"]) = (json!(max), json!(true));
    node.post("/v1/grab", wanted).await.good()["jobs"].as_array().unwrap().clone()
}

async fn counts(node: &Node) -> (u64, u64, u64) {
    let info = node.get("/v1/queues/mail").await.good();
    let count = |name: &str| info[name].as_u64().unwrap();
    (count("ready"), count("limited"), count("leased"))
}

#[tokio::test]
async fn limits_are_set_shown_replaced_and_lifted() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    let limits = json!({
        "queue": {"leased": 200, "per_second": 100.0},
        "types": {"send_email": {"leased": 20, "per_second": 14.5}},
        "key": {"leased": 1, "per_second": 5.0}
    });
    let said = node.put("/v1/queues/mail", json!({"limits": limits})).await.good();
    assert_eq!(said["limits"], limits);
    let said = node.put("/v1/queues/mail", json!({"lease_ms": 5_000})).await.good();
    assert_eq!((&said["limits"], &said["lease_ms"]), (&limits, &json!(5_000)));
    let said = node.put("/v1/queues/mail", json!({"limits": {"key": {"leased": 3}}})).await.good();
    assert_eq!(said["limits"], json!({"key": {"leased": 3}}), "they replace all former ones");
    let mut node = node;
    node.look(&mut world).await;
    assert_eq!(node.get("/v1/queues/mail").await.good()["settings"]["limits"], json!({"key": {"leased": 3}}));
    let said = node.put("/v1/queues/mail", json!({"limits": {}})).await.good();
    assert_eq!(said.get("limits"), None);

    for (wrong, pointer) in [
        (json!({"queue": {}}), "/limits/queue"),
        (json!({"queue": {"leased": 0}}), "/limits/queue/leased"),
        (json!({"types": {"a": {"per_second": -1}}}), "/limits/types/a/per_second"),
        (json!({"key": {"per_second": 1_000_001}}), "/limits/key/per_second"),
        (json!({"keys": {"leased": 1}}), "/limits/keys"),
    ] {
        node.put("/v1/queues/mail", json!({"limits": wrong})).await.fault(pointer);
    }
}

/// A worker that does so many of the jobs there are, one at a time; what it had, when from, when to.
async fn work(node: &Node, count: usize) -> Vec<(String, Instant, Instant)> {
    let mut done = Vec::new();
    while done.len() < count {
        let Some(job) = grabbed(node, 1, 300).await.pop() else { break };
        let since = Instant::now();
        let key = job["key"].as_str().unwrap_or_default().to_owned();
        let to = Instant::now();
        assert_eq!(node.result(&job, "complete").await, "ok");
        done.push((key, since, to));
    }
    done
}

#[tokio::test]
async fn of_each_key_one_at_a_time() {
    let (mut world, node) = limited(json!({"key": {"leased": 1}})).await;
    let jobs =
        (0..30).map(|n| job("t", ["x", "y", "x"][n % 3])).chain([json!({"type": "t"}), json!({"type": "t"})]);
    produce(&mut world, &node, jobs).await;
    let first = node.grab(&["mail"]).await;
    let keys: Vec<_> = first.iter().map(|job| job["key"].as_str()).collect();
    assert_eq!(keys, [Some("x"), Some("y"), None, None], "jobs without a key are free of it");
    assert_eq!(counts(&node).await, (0, 28, 4));
    assert_eq!(grabbed(&node, 10, 0).await.len(), 0);
    for job in &first {
        assert_eq!(node.result(job, "complete").await, "ok");
    }
    let (one, two, three) = tokio::join!(work(&node, 28), work(&node, 28), work(&node, 28));
    let mut of_key: HashMap<String, Vec<(Instant, Instant)>> = HashMap::new();
    for (key, since, to) in one.into_iter().chain(two).chain(three) {
        of_key.entry(key).or_default().push((since, to));
    }
    assert_eq!((of_key["x"].len(), of_key["y"].len()), (19, 9));
    for times in of_key.values_mut() {
        times.sort_unstable();
        assert!(times.windows(2).all(|pair| pair[0].1 <= pair[1].0), "two of a key at once");
    }
}

#[tokio::test]
async fn a_type_goes_no_faster_than_its_rate_and_the_others_as_they_come() {
    let since = Instant::now();
    let (mut world, node) = limited(json!({"types": {"a": {"per_second": 5}}})).await;
    let jobs = (0..8).map(|_| json!({"type": "a"})).chain((0..3).map(|_| json!({"type": "b"})));
    produce(&mut world, &node, jobs).await;
    let first = node.grab(&["mail"]).await;
    assert_eq!(first.iter().filter(|job| job["type"] == "b").count(), 3);
    let mut count = first.len() - 3;
    while count < 8 {
        let more = grabbed(&node, 100, 10_000).await;
        assert!(!more.is_empty(), "who waits is served when the rate lets the next one through");
        count += more.len();
        let allowed = 1.0 + since.elapsed().as_secs_f64() * 5.0;
        assert!(count as f64 <= allowed, "{count} within {:?}", since.elapsed());
    }
}

#[tokio::test]
async fn a_workers_own_transaction_frees_its_place() {
    let (mut world, node) = limited(json!({"key": {"leased": 1}})).await;
    produce(&mut world, &node, [job("t", "x"), job("t", "x")]).await;
    let held = transactional(&node, 10, 10_000).await.remove(0);
    let held = held["lease"].as_str().unwrap();
    assert_eq!(transactional(&node, 10, 1_000).await.len(), 0);
    let sql = format!("select tidemill.complete_job('{held}')");
    let completes = world.run(&sql);
    let (next, ()) = tokio::join!(grabbed(&node, 10, 10_000), completes);
    assert_eq!(next.len(), 1);
    assert_eq!(node.result(&next[0], "complete").await, "ok");
}

#[tokio::test]
async fn a_new_owner_counts_what_is_leased() {
    let (mut world, node) = limited(json!({"queue": {"leased": 2}})).await;
    produce(&mut world, &node, (0..5).map(|_| json!({"type": "t"}))).await;
    let first = grabbed(&node, 1, 10_000).await.remove(0);
    let second = transactional(&node, 10, 10_000).await.remove(0);
    drop(node);
    until("the queue is free", async || {
        let free = "select count(*) from tidemill.owner where until < clock_timestamp()";
        (world.count(free).await == 1).then_some(())
    })
    .await;
    let node = world.node(&["mail"]).await;
    assert_eq!(grabbed(&node, 10, 500).await.len(), 0, "as many are out as may be");
    let waits = grabbed(&node, 10, 10_000);
    let (third, said) = tokio::join!(waits, async {
        let mut said = node.result(&first, "complete").await;
        while said == "unavailable" {
            said = node.result(&first, "complete").await;
        }
        said
    });
    assert_eq!((third.len(), said.as_str()), (1, "ok"));
    assert_eq!(grabbed(&node, 10, 0).await.len(), 0);
    assert_eq!(node.result(&second, "complete").await, "ok");
    assert_eq!(grabbed(&node, 10, 0).await.len(), 1);
}

#[tokio::test]
async fn a_change_takes_effect_while_the_queue_is_served() {
    let mut world = World::new(&["mail"]).await;
    let mut node = world.node(&["mail"]).await;
    produce(&mut world, &node, (0..4).map(|_| json!({"type": "t"}))).await;
    let held = transactional(&node, 1, 10_000).await;
    assert_eq!(held.len(), 1);
    node.put("/v1/queues/mail", json!({"limits": {"types": {"t": {"leased": 1}}}})).await.good();
    node.look(&mut world).await;
    until("the owner has seen it", async || (counts(&node).await.1 == 3).then_some(())).await;
    assert_eq!(grabbed(&node, 10, 300).await.len(), 0, "the one that was leased before counts");
    world.run(&format!("select tidemill.complete_job('{}')", held[0]["lease"].as_str().unwrap())).await;
    assert_eq!(grabbed(&node, 10, 10_000).await.len(), 1);
    node.put("/v1/queues/mail", json!({"limits": {}})).await.good();
    node.look(&mut world).await;
    assert_eq!(grabbed(&node, 10, 10_000).await.len(), 2);
}

#[tokio::test]
async fn a_noisy_key_does_not_delay_another_keys_job() {
    let (mut world, node) = limited(json!({"key": {"leased": 1}})).await;
    produce(&mut world, &node, (0..1_000).map(|_| job("t", "noisy"))).await;
    let noisy = grabbed(&node, 10, 10_000).await;
    assert_eq!(noisy.len(), 1);
    until("all are read", async || (counts(&node).await.1 == 999).then_some(())).await;
    let waits = grabbed(&node, 10, 10_000);
    let since = Instant::now();
    let (got, ()) = tokio::join!(waits, produce(&mut world, &node, [job("t", "quiet")]));
    assert_eq!((got.len(), &got[0]["key"]), (1, &json!("quiet")));
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_key_that_fills_the_window_makes_room_and_comes_back_once() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&[]).await;
    node.put("/v1/queues/mail", json!({"window": {"jobs": 16}, "limits": {"key": {"leased": 1}}}))
        .await
        .good();
    drop(node);
    let node = world.node(&["mail"]).await;
    produce(&mut world, &node, (0..60).map(|_| job("t", "noisy")).chain([job("t", "quiet")])).await;
    let mut got = grabbed(&node, 1, 10_000).await;
    let noisy = got.remove(0);
    let mut quiet = None;
    until("the other key's job is reached", async || {
        quiet = grabbed(&node, 10, 1_000).await.pop();
        quiet.is_some().then_some(())
    })
    .await;
    assert_eq!(quiet.unwrap()["key"], "quiet");
    let parked = "select count(*) from tidemill.waiting where parked_key = 'noisy'";
    assert!(world.count(parked).await > 30);
    assert_eq!(node.result(&noisy, "complete").await, "ok");
    let mut done = 1;
    let since = Instant::now();
    while done < 60 && since.elapsed() < Duration::from_secs(60) {
        world.tick().await;
        for job in grabbed(&node, 10, 100).await {
            assert_eq!(node.result(&job, "complete").await, "ok");
            done += 1;
        }
    }
    assert_eq!(done, 60);
    let moves = "select count(*) from pgq.event_1 where ev_retry > 0";
    let moves = world.count(moves).await;
    assert!(moves <= 60, "{moves} times a job was put back: they go to and fro");
}
