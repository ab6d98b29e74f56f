//! Priorities: the higher one is handed out first, wherever a job came from and however often it is tried.

#![expect(clippy::unwrap_used, reason = "a failure here is the test's")]

use crate::support::{Node, World, until};
use serde_json::{Value, json};

const JOBS: &str = "/v1/queues/mail/jobs";
const LINES: &str = "application/x-ndjson";

fn job(name: &str, priority: i32) -> Value {
    json!({"type": "t", "args": name, "priority": priority})
}

/// The arguments of what one grab gets, in its order.
async fn grabbed(world: &mut World, node: &Node) -> (Vec<Value>, Vec<String>) {
    world.tick().await;
    let jobs = node.grab(&["mail"]).await;
    let names = jobs.iter().map(|job| job["args"].as_str().unwrap().to_owned()).collect();
    (jobs, names)
}

#[tokio::test]
async fn the_higher_one_is_handed_out_first() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    let some =
        json!({"jobs": [job("last", -1_000), {"type": "t", "args": "plain"}, job("none", 0), job("b", 5)]});
    assert_eq!(node.post(JOBS, some).await.status, 201);
    let lines = [job("c", 5), job("first", 1_000)].map(|job| job.to_string()).join("\n");
    assert_eq!(node.send(JOBS, LINES, lines).await.status, 201);
    let in_sql = r#"select tidemill.insert_job('mail', 'other', '"a"', '{"priority": 6}')"#;
    world.session.query("insert", in_sql, &[]).await.unwrap();
    let (jobs, names) = grabbed(&mut world, &node).await;
    assert_eq!(names, ["first", "a", "b", "c", "plain", "none", "last"]);
    let details = node.get(&format!("/v1/queues/mail/jobs/{}", jobs[0]["id"].as_str().unwrap())).await.good();
    assert_eq!(details["options"], json!({"priority": 1_000}));
}

#[tokio::test]
async fn a_job_that_failed_has_its_priority_still() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    node.post(JOBS, job("urgent", 5)).await.good();
    let (jobs, _) = grabbed(&mut world, &node).await;
    let failed = json!({"lease": jobs[0]["lease"], "outcome": "temp_fail", "message": "m", "retry_in_ms": 1});
    let said = node.post("/v1/results", json!({"results": [failed]})).await.good();
    assert_eq!(said["results"][0]["answer"], "ok");
    node.post(JOBS, json!({"jobs": [job("plain", 0), job("most urgent", 6)]})).await.good();
    until("the retry", async || {
        (world.count("select tidemill.promote_due(10)::bigint").await > 0).then_some(())
    })
    .await;
    assert_eq!(grabbed(&mut world, &node).await.1, ["most urgent", "urgent", "plain"]);
}

#[tokio::test]
async fn the_jobs_of_a_replace_have_their_own() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    node.post(JOBS, json!({"jobs": [job("parent", 9), job("stream", 9)]})).await.good();
    let (jobs, _) = grabbed(&mut world, &node).await;
    let children = [job("one", 0), job("two", -3), job("three", 7)];
    let replaced = json!({"lease": jobs[0]["lease"], "outcome": "replace", "jobs": children});
    let said = node.post("/v1/results", json!({"results": [replaced]})).await.good();
    assert_eq!(said["results"][0]["answer"], "ok");
    let lines = [job("four", 1), job("five", 8)].map(|job| job.to_string()).join("\n");
    let stream = format!("/v1/leases/{}/replace", jobs[1]["lease"].as_str().unwrap());
    assert_eq!(node.send(&stream, LINES, lines).await.good()["answer"], "ok");
    assert_eq!(grabbed(&mut world, &node).await.1, ["five", "three", "four", "one", "two"]);
}

#[tokio::test]
async fn what_is_out_of_range_is_refused_with_the_range() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    for priority in [-1_001, 1_001] {
        let detail = node.post(JOBS, job("x", priority)).await.fault("/priority");
        assert!(detail.contains("-1000 and 1000"), "{detail}");
        let many = json!({"jobs": [job("x", 0), job("x", priority)]});
        node.post(JOBS, many).await.fault("/jobs/1/priority");
        let lines = format!("{}\n{}", job("x", 0), job("x", priority));
        node.send(JOBS, LINES, lines).await.fault("/1/priority");
        let replace = json!({"lease": "l", "outcome": "replace", "jobs": [job("x", priority)]});
        node.post("/v1/results", json!({"results": [replace]})).await.fault("/results/0/jobs/0/priority");
    }
    assert_eq!(world.count("select count(*) from pgq.event_1").await, 0);
}
