//! Timeouts: no attempt lasts longer, whoever extends its lease, wherever the lease lives and however the job came.

#![expect(clippy::unwrap_used, reason = "a failure here is the test's")]

use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};

use crate::support::{Node, World, grab, until};

const JOBS: &str = "/v1/queues/mail/jobs";

fn job(timeout_ms: u64) -> Value {
    json!({"type": "t", "timeout_ms": timeout_ms})
}

/// The next job, leased for so long.
async fn one(node: &Node, lease_ms: u64, transactional: bool) -> Value {
    let mut wanted = grab(&["mail"], 10_000);
    (wanted["max"], wanted["lease_ms"]) = (json!(1), json!(lease_ms));
    wanted["transactional"] = json!(transactional);
    node.post("/v1/grab", wanted).await.good()["jobs"][0].clone()
}

fn time(of: &Value) -> Timestamp {
    of["lease_ends_at"].as_str().unwrap().parse().unwrap()
}

/// A heartbeat that asks for a day: the answer, and when the lease ends.
async fn beat(node: &Node, job: &Value) -> (String, Option<Timestamp>) {
    let lease = json!({"lease": job["lease"], "extend_ms": 86_400_000});
    let beat = json!({"worker": {"instance": uuid::Uuid::new_v4()}, "leases": [lease]});
    let said = node.post("/v1/heartbeat", beat).await.good()["leases"][0].clone();
    (said["answer"].as_str().unwrap().to_owned(), said["lease_ends_at"].is_string().then(|| time(&said)))
}

async fn extended(node: &Node, job: &Value) -> Timestamp {
    let (answer, end) = beat(node, job).await;
    assert_eq!(answer, "ok");
    end.unwrap()
}

#[tokio::test]
async fn a_worker_that_only_keeps_its_heartbeat_loses_the_job_in_its_time() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    node.post(JOBS, json!({"jobs": [job(3_000), {"type": "t"}]})).await;
    world.tick().await;
    let hung = one(&node, 2_000, false).await;
    let end = time(&hung) + 1_000.milliseconds();
    assert_eq!((&hung["timeout_ms"], &hung["reissued"]), (&json!(3_000), &json!(false)));
    for _ in 0..3 {
        assert_eq!(extended(&node, &hung).await, end, "to the microsecond");
    }
    let path = format!("{JOBS}/{}", hung["id"].as_str().unwrap());
    let details = node.get(&path).await.good();
    assert_eq!((&details["options"]["timeout_ms"], time(&details)), (&json!(3_000), end));

    let other = one(&node, 1_000, false).await;
    assert_eq!(other.get("timeout_ms"), None, "{other}");
    assert_eq!(node.result(&other, "complete").await, "ok");

    // The next grab waits for it.
    let again = one(&node, 60_000, false).await;
    assert_eq!((&again["id"], &again["attempt"], &again["reissued"]), (&hung["id"], &json!(2), &json!(true)));
    assert_eq!(again["previous"]["ended"], "expired");
    assert_eq!(again["previous"]["at"].as_str().unwrap().parse::<Timestamp>().unwrap(), end);
    assert_eq!(beat(&node, &hung).await.0, "stale");
    assert_eq!(node.result(&hung, "complete").await, "stale");
    let failures = node.get(&path).await.good()["failures"].clone();
    assert_eq!(failures[0]["message"], "the attempt's time of 3000 ms was over", "{failures}");
    assert_eq!(node.result(&again, "complete").await, "ok");
}

#[tokio::test]
async fn the_bound_holds_in_the_waiting_room_and_after_a_takeover() {
    let mut world = World::new(&["mail"]).await;
    let mut node = world.node(&["mail"]).await;
    node.post(JOBS, json!({"jobs": [job(3_600_000), job(3_600_000), job(3_600_000)]})).await;
    world.tick().await;
    let (mut leases, length) = (Vec::new(), 60_000);
    for transactional in [false, true, true] {
        leases.push(one(&node, length, transactional).await);
    }
    let ends: Vec<Timestamp> =
        leases.iter().map(|job| time(job) + (3_600_000 - 60_000).milliseconds()).collect();
    // The last one is not extended before the takeover.
    for (lease, end) in leases.iter().zip(&ends).take(2) {
        assert_eq!(extended(&node, lease).await, *end);
    }
    drop(node);
    until("the queue is free", async || {
        let free = "select count(*) from tidemill.owner where until < clock_timestamp()";
        (world.count(free).await == 1).then_some(())
    })
    .await;
    node = world.node(&["mail"]).await;
    for (lease, end) in leases.iter().zip(&ends) {
        until("the new owner has read it", async || (beat(&node, lease).await.0 == "ok").then_some(())).await;
        assert_eq!(extended(&node, lease).await, *end);
    }
    assert_eq!(node.result(&leases[0], "complete").await, "ok");
    assert_eq!(node.result(&leases[1], "complete").await, "ok");
    world.run(&format!("select tidemill.complete_job('{}')", leases[2]["lease"].as_str().unwrap())).await;
}

#[tokio::test]
async fn a_transactional_attempt_is_over_in_its_time_too() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    node.post(JOBS, job(2_000)).await;
    world.tick().await;
    let hung = one(&node, 60_000, true).await;
    assert_eq!(extended(&node, &hung).await, time(&hung));
    until("its time is over", async || {
        (world.count("select tidemill.promote_due(10)::bigint").await > 0).then_some(())
    })
    .await;
    let late = format!("select tidemill.complete_job('{}')", hung["lease"].as_str().unwrap());
    let error = world.session.execute("complete", &late, &[]).await.unwrap_err();
    assert_eq!(error.code().map(|code| code.code().to_owned()).as_deref(), Some("TM002"));
    world.tick().await;
    let again = one(&node, 60_000, true).await;
    assert_eq!((&again["attempt"], &again["timeout_ms"]), (&json!(2), &json!(2_000)));
    let failures =
        node.get(&format!("{JOBS}/{}", hung["id"].as_str().unwrap())).await.good()["failures"].clone();
    assert_eq!(failures[0]["message"], "the attempt's time of 2000 ms was over", "{failures}");
}

#[tokio::test]
async fn it_stays_with_the_job_however_it_comes_and_goes() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    // Delayed, and failed once.
    node.post(JOBS, json!({"type": "t", "timeout_ms": 40_000, "delay_ms": 1})).await;
    let promote = "select tidemill.promote_due(10)::bigint";
    until("it is due", async || (world.count(promote).await > 0).then_some(())).await;
    world.tick().await;
    let mut held = one(&node, 60_000, false).await;
    let fail = |held: &Value, outcome: &str| json!({"results": [{"lease": held["lease"], "outcome": outcome, "message": "no", "retry_in_ms": 0}]});
    node.post("/v1/results", fail(&held, "temp_fail")).await.good();
    until("it is due again", async || (world.count(promote).await > 0).then_some(())).await;
    world.tick().await;
    held = one(&node, 60_000, false).await;
    assert_eq!((&held["attempt"], &held["timeout_ms"]), (&json!(2), &json!(40_000)));

    // Dead, and redriven.
    let dead = json!({"results": [{"lease": held["lease"], "outcome": "perm_fail", "message": "never"}]});
    node.post("/v1/results", dead).await.good();
    node.post("/v1/queues/mail/dead/redrive", json!({"all": true})).await.good();
    world.tick().await;
    held = one(&node, 60_000, false).await;
    assert_eq!((&held["attempt"], &held["timeout_ms"]), (&json!(1), &json!(40_000)));

    // A child of a replace, of a stream, and a job of a stream.
    let child = json!({"results": [{"lease": held["lease"], "outcome": "replace", "jobs": [job(41_000)]}]});
    assert_eq!(node.post("/v1/results", child).await.good()["results"][0]["answer"], "ok");
    world.tick().await;
    held = one(&node, 60_000, false).await;
    assert_eq!(held["timeout_ms"], 41_000);
    let stream = format!("/v1/leases/{}/replace", held["lease"].as_str().unwrap());
    node.send(&stream, "application/x-ndjson", job(42_000).to_string()).await.good();
    world.tick().await;
    held = one(&node, 60_000, false).await;
    assert_eq!(held["timeout_ms"], 42_000);
    assert_eq!(node.result(&held, "complete").await, "ok");
    node.send(JOBS, "application/x-ndjson", job(43_000).to_string()).await.good();
    world.tick().await;
    held = one(&node, 60_000, false).await;
    assert_eq!(held["timeout_ms"], 43_000);
    assert_eq!(node.result(&held, "complete").await, "ok");

    // By SQL; and an event of somebody else's, which has no options of ours.
    world.run("select tidemill.insert_job('mail', 't', '{}', '{\"timeout_ms\": 44000}')").await;
    world
        .run("select pgq.insert_event('mail', 't', '{}', '{\"timeout_ms\": \"soon\"}', null, null, null)")
        .await;
    world.tick().await;
    let jobs = node.grab(&["mail"]).await;
    let timeouts: Vec<&Value> = jobs.iter().map(|job| &job["timeout_ms"]).collect();
    assert_eq!(timeouts, [&json!(44_000), &Value::Null]);
}
