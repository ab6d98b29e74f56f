//! What a job's details tell of its work: how far it is, what came of it, which jobs replaced it.

#![expect(clippy::unwrap_used, reason = "a failure here is the test's")]

use crate::support::{Node, Said, World, grab, until};
use serde_json::{Value, json};

fn path(job: &Value) -> String {
    format!("/v1/queues/{}/jobs/{}", job["queue"].as_str().unwrap(), job["id"].as_str().unwrap())
}

async fn report(node: &Node, job: &Value, progress: Value) -> Said {
    let lease = json!({"lease": job["lease"], "extend_ms": 60_000, "progress": progress});
    node.post("/v1/heartbeat", json!({"worker": {"instance": uuid::Uuid::new_v4()}, "leases": [lease]})).await
}

async fn reported(node: &Node, job: &Value, progress: Value) {
    let said = report(node, job, progress).await.good();
    assert_eq!(said["leases"][0]["answer"], "ok", "{said}");
}

async fn finish(node: &Node, job: &Value, end: Value) -> Said {
    let mut item = json!({"lease": job["lease"]});
    item.as_object_mut().unwrap().append(&mut end.as_object().unwrap().clone());
    node.post("/v1/results", json!({"results": [item]})).await
}

async fn finished(node: &Node, job: &Value, end: Value) {
    let said = finish(node, job, end).await.good();
    assert_eq!(said["results"][0]["answer"], "ok", "{said}");
}

#[tokio::test]
async fn progress_is_shown_and_told_to_the_next_attempt() {
    let mut world = World::new(&["a", "b"]).await;
    let node = world.node(&["b"]).await;
    let mut other = world.node(&["a"]).await;
    other.look(&mut world).await;
    world.produce("b", "crawl", 1).await;
    let job = node.grab(&["b"]).await.remove(0);
    assert_eq!(
        (&job["progress"], &node.get(&path(&job)).await.good()["progress"]),
        (&Value::Null, &Value::Null)
    );

    let page =
        |n: u8| json!({"percent": n, "message": "page", "checkpoint": {"page": n, "seen": [1.50, "ä"]}});
    reported(&node, &job, page(4)).await;
    // A dispatcher that does not own the queue passes it on, and asks the owner.
    reported(&other, &job, page(5)).await;
    let info = other.get(&path(&job)).await.good();
    assert_eq!((&info["state"], &info["progress"]), (&json!("leased"), &page(5)));

    finished(&node, &job, json!({"outcome": "temp_fail", "message": "later", "retry_in_ms": 1})).await;
    let info = node.get(&path(&job)).await.good();
    assert_eq!((&info["state"], &info["progress"]), (&json!("waiting"), &page(5)));
    until("the retry is due", async || {
        (world.count("select tidemill.promote_due(10)::bigint").await > 0).then_some(())
    })
    .await;
    world.tick().await;
    let again = node.grab(&["b"]).await.remove(0);
    assert_eq!((&again["attempt"], &again["progress"]), (&json!(2), &page(5)), "where to go on");

    finished(&node, &again, json!({"outcome": "complete"})).await;
    let info = node.get(&path(&job)).await.good();
    assert_eq!(
        (&info["state"], &info["progress"], &info["result"]),
        (&json!("done"), &Value::Null, &Value::Null)
    );
    assert_eq!(report(&node, &again, page(6)).await.good()["leases"][0]["answer"], "stale");
}

#[tokio::test]
async fn progress_of_a_lease_in_the_waiting_room_is_shown_and_ends_with_a_takeover() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    world.produce("mail", "t", 1).await;
    let mut wanted = grab(&["mail"], 10_000);
    wanted["transactional"] = json!(true);
    let job = node.post("/v1/grab", wanted).await.good()["jobs"][0].clone();
    reported(&node, &job, json!({"percent": 40})).await;
    let info = node.get(&path(&job)).await.good();
    assert_eq!((&info["state"], &info["progress"]["percent"]), (&json!("leased"), &json!(40)));

    drop(node);
    until("the queue is free", async || {
        let free = "select count(*) from tidemill.owner where until < clock_timestamp()";
        (world.count(free).await == 1).then_some(())
    })
    .await;
    let node = world.node(&["mail"]).await;
    until("it is owned again", async || {
        let said = node.get(&path(&job)).await;
        (said.status == 200).then_some(())
    })
    .await;
    let info = node.get(&path(&job)).await.good();
    assert_eq!((&info["state"], &info["progress"]), (&json!("leased"), &Value::Null), "it was in memory");
    reported(&node, &job, json!({"percent": 50})).await;
    world.run(&format!("select tidemill.complete_job('{}')", job["lease"].as_str().unwrap())).await;
    let info = node.get(&path(&job)).await.good();
    assert_eq!((&info["state"], &info["progress"]), (&json!("done"), &Value::Null), "nobody told the owner");
}

#[tokio::test]
async fn a_result_is_shown_when_the_job_is_done() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    world.produce("mail", "t", 3).await;
    let jobs = node.grab(&["mail"]).await;
    let result = json!({"messages": 3, "text": "\\u0000 \"ä\""});
    finished(&node, &jobs[0], json!({"outcome": "complete", "result": result})).await;
    finished(&node, &jobs[1], json!({"outcome": "complete"})).await;
    let info = node.get(&path(&jobs[0])).await.good();
    assert_eq!((&info["state"], &info["result"], &info["children"]), (&json!("done"), &result, &json!([])));
    assert_eq!(node.get(&path(&jobs[1])).await.good()["result"], Value::Null);
    let notes = "select count(*) from tidemill.journal_1_0 where j_note is not null";
    assert_eq!(world.count(notes).await, 1, "without a result nothing is written beside the record");
    assert_eq!(node.get(&path(&jobs[2])).await.good()["state"], "leased");
}

#[tokio::test]
async fn the_jobs_that_replaced_one_are_its_children() {
    let mut world = World::new(&["mail", "other"]).await;
    let node = world.node(&["mail", "other"]).await;
    world.produce("mail", "event", 3).await;
    let jobs = node.grab(&["mail"]).await;
    let by = json!([{"type": "a"}, {"type": "b", "queue": "other"}, {"type": "c", "delay_ms": 60_000}]);
    finished(&node, &jobs[0], json!({"outcome": "replace", "jobs": by})).await;
    let info = node.get(&path(&jobs[0])).await.good();
    let children =
        json!([{"queue": "mail", "id": "4"}, {"queue": "other", "id": "1"}, {"queue": "mail", "id": "5"}]);
    assert_eq!(
        (&info["state"], &info["children"], &info["attempts"]),
        (&json!("replaced"), &children, &json!(1))
    );
    for (child, kind) in children.as_array().unwrap().iter().zip(["a", "b", "c"]) {
        assert_eq!(node.get(&path(child)).await.good()["type"], kind);
    }

    // A job may also become nothing.
    finished(&node, &jobs[1], json!({"outcome": "replace", "jobs": []})).await;
    let info = node.get(&path(&jobs[1])).await.good();
    assert_eq!((&info["state"], &info["children"]), (&json!("replaced"), &json!([])));

    let stream = format!("/v1/leases/{}/replace", jobs[2]["lease"].as_str().unwrap());
    let body = "{\"type\":\"x\",\"queue\":\"other\"}\n{\"type\":\"y\"}\n".repeat(750);
    let said = node.send(&stream, "application/x-ndjson", body).await.good();
    assert_eq!(said["inserted"], "1500");
    let info = node.get(&path(&jobs[2])).await.good();
    let children = info["children"].as_array().unwrap();
    assert_eq!((&info["state"], children.len()), (&json!("replaced"), 1_000), "the first of them");
    let two = json!([{"queue": "other", "id": "2"}, {"queue": "mail", "id": "6"}]);
    assert_eq!(json!(children[..2]), two);
    assert_eq!(node.get(&path(&children[999])).await.good()["type"], "y");
}

#[tokio::test]
async fn results_and_reports_are_bounded() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    world.produce("mail", "t", 1).await;
    let job = node.grab(&["mail"]).await.remove(0);
    // With its quotes.
    let text = |bytes: usize| "x".repeat(bytes - 2);
    reported(&node, &job, json!({"checkpoint": text(4_095)})).await;
    reported(&node, &job, json!({"checkpoint": text(4_096), "message": "m".repeat(4_096), "percent": 100}))
        .await;
    for (field, value) in
        [("checkpoint", json!(text(4_097))), ("message", json!("m".repeat(4_097))), ("percent", json!(101))]
    {
        report(&node, &job, json!({field: value})).await.fault(&format!("/leases/0/progress/{field}"));
    }
    assert_eq!(node.get(&path(&job)).await.good()["progress"]["percent"], 100, "as it was");

    let complete = |bytes: usize| json!({"outcome": "complete", "result": text(bytes)});
    let why = finish(&node, &job, complete(65_537)).await.fault("/results/0/result");
    assert!(!why.is_empty());
    finished(&node, &job, complete(65_536)).await;
    let info = node.get(&path(&job)).await.good();
    assert_eq!(info["result"].as_str().map(str::len), Some(65_534));
}
