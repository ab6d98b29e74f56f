//! Unique jobs: a second copy is kept out while the first is unfinished, wherever that is and whoever owns the queue.

#![expect(clippy::unwrap_used, reason = "a failure here is the test's")]

use crate::support::{Node, Said, World, grab, until};
use serde_json::{Value, json};

const JOBS: &str = "/v1/queues/mail/jobs";
const LINES: &str = "application/x-ndjson";

fn unique(more: &Value) -> Value {
    let mut job = json!({"type": "t", "unique": {"key": "welcome-7"}});
    job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    job
}

async fn produce(node: &Node) -> Said {
    node.post(JOBS, unique(&json!({}))).await
}

/// A new job with the key, which was free.
async fn fresh(world: &mut World, node: &Node, more: &Value) -> String {
    let said = node.post(JOBS, unique(more)).await;
    world.tick().await;
    assert_eq!((said.status, &said.body["jobs"][0]["duplicate"]), (201, &json!(null)), "{said:?}");
    said.body["jobs"][0]["id"].as_str().unwrap().to_owned()
}

/// The key is held by this job.
#[track_caller]
fn is_there(said: &Said, id: &str) {
    assert_eq!((said.status, &said.body), (200, &json!({"jobs": [{"id": id, "duplicate": true}]})));
}

async fn one(node: &Node, transactional: bool) -> Value {
    let mut wanted = grab(&["mail"], 10_000);
    (wanted["transactional"], wanted["max"]) = (json!(transactional), json!(1));
    node.post("/v1/grab", wanted).await.good()["jobs"][0].clone()
}

async fn finish(node: &Node, job: &Value, mut result: Value) -> Value {
    result["lease"] = job["lease"].clone();
    node.post("/v1/results", json!({"results": [result]})).await.good()["results"][0].clone()
}

#[tokio::test]
async fn a_second_copy_is_answered_with_the_first() {
    let mut world = World::new(&["mail", "other"]).await;
    let node = world.node(&["mail"]).await;
    let id = fresh(&mut world, &node, &json!({})).await;
    is_there(&produce(&node).await, &id);

    let said = node.post(JOBS, json!({"jobs": [{"type": "a"}, unique(&json!({}))]})).await;
    assert_eq!(said.status, 201, "one of both is new");
    let jobs = &said.body["jobs"];
    assert_eq!((&jobs[0]["duplicate"], &jobs[1]), (&json!(null), &json!({"id": id, "duplicate": true})));
    let other = node.post("/v1/queues/other/jobs", unique(&json!({}))).await;
    assert_eq!(
        (other.status, &other.body["jobs"][0]["duplicate"]),
        (201, &json!(null)),
        "a key of another queue"
    );

    let line = |job: &Value| format!("{job}\n");
    let twice = line(&unique(&json!({}))) + &line(&unique(&json!({})));
    let said = node.send(JOBS, LINES, twice.clone()).await;
    assert_eq!((said.status, said.body), (200, json!({"inserted": "0", "duplicates": "2"})));
    let said = node.send(JOBS, LINES, line(&json!({"type": "a"})) + &twice).await.good();
    assert_eq!((&said["inserted"], &said["duplicates"]), (&json!("1"), &json!("2")));
    assert_eq!(said["first_id"], said["last_id"]);

    // With an idempotency key the answer is the first one, whatever became of the job.
    let once = async |id: &str, media: &str, body: String| {
        let request = node.request(reqwest::Method::POST, JOBS).header("idempotency-key", id);
        crate::support::said(request.header("content-type", media).body(body).send().await.unwrap()).await
    };
    let ask = async || {
        let job = unique(&json!({})).to_string();
        [once("a", "application/json", job.clone()).await, once("b", LINES, job).await]
    };
    let first = ask().await;
    let job = one(&node, false).await;
    assert_eq!((&job["id"], node.result(&job, "complete").await.as_str()), (&json!(id), "ok"));
    for (first, again) in first.into_iter().zip(ask().await) {
        assert_eq!((first.status, again.status, again.body), (200, 200, first.body));
    }
    node.post(JOBS, json!({"type": "t", "unique": {"key": ""}})).await.fault("/unique/key");
    node.post(JOBS, json!({"type": "t", "unique": {"key": "k", "scope": "day"}}))
        .await
        .problem(400, "invalid-request");
}

#[tokio::test]
async fn the_key_is_held_in_every_state_and_free_after_every_end() {
    let mut world = World::new(&["mail"]).await;
    let mut node = world.node(&["mail"]).await;
    // Delayed, ready, leased, waiting for a retry, ready again; then over to another owner, which has to know it as well.
    let id = fresh(&mut world, &node, &json!({"delay_ms": 3_600_000})).await;
    is_there(&produce(&node).await, &id);
    world.run("update tidemill.waiting set due = now()").await;
    world.run("select tidemill.promote_due(10)").await;
    world.tick().await;
    is_there(&produce(&node).await, &id);
    let job = one(&node, false).await;
    is_there(&produce(&node).await, &id);
    finish(&node, &job, json!({"outcome": "temp_fail", "message": "", "retry_in_ms": 0})).await;
    is_there(&produce(&node).await, &id);
    world.run("select tidemill.promote_due(10)").await;
    world.tick().await;
    drop(node);
    until("the queue is free", async || {
        let free = "select count(*) from tidemill.owner where until < clock_timestamp()";
        (world.count(free).await == 1).then_some(())
    })
    .await;
    node = world.node(&["mail"]).await;
    is_there(&produce(&node).await, &id);
    let job = one(&node, false).await;
    assert_eq!((&job["id"], &job["attempt"]), (&json!(id), &json!(2)));
    assert_eq!(node.result(&job, "complete").await, "ok");

    for transactional in [false, true] {
        for outcome in ["complete", "perm_fail", "temp_fail"] {
            let id = fresh(&mut world, &node, &json!({"max_attempts": 1})).await;
            let job = one(&node, transactional).await;
            is_there(&produce(&node).await, &id);
            assert_eq!(node.result(&job, outcome).await, "ok");
        }
        // Replaced by one with the same key, which is another job then.
        let id = fresh(&mut world, &node, &json!({})).await;
        let job = one(&node, transactional).await;
        let said =
            finish(&node, &job, json!({"outcome": "replace", "jobs": [unique(&json!({})), {"type": "u"}]}))
                .await;
        assert_eq!(said["answer"], "ok");
        let heir = said["ids"][0].as_str().unwrap().to_owned();
        assert_ne!(heir, id);
        is_there(&produce(&node).await, &heir);
        world.tick().await;
        let job = one(&node, transactional).await;
        let path = format!("/v1/leases/{}/replace", job["lease"].as_str().unwrap());
        let said = node.send(&path, LINES, format!("{}\n", unique(&json!({"type": "last"})))).await.good();
        assert_eq!(said["inserted"], "1");
        let said = produce(&node).await;
        assert_ne!(said.body["jobs"][0]["id"], heir.as_str());
        assert_eq!(said.status, 200);
        world.tick().await;
        // Both, in whatever order: none may be left for the next grab.
        for _ in ["u", "last"] {
            let job = one(&node, false).await;
            assert_eq!(node.result(&job, "complete").await, "ok");
        }

        let id = fresh(&mut world, &node, &json!({})).await;
        if transactional {
            let job = one(&node, true).await;
            assert_eq!(job["id"], id.as_str());
            world.run(&format!("select tidemill.complete_job('{}')", job["lease"].as_str().unwrap())).await;
        } else {
            let cancel = format!("{JOBS}/{id}/cancel");
            assert_eq!(node.post(&cancel, json!({"code": 1})).await.good()["cancelled"], "1");
            // If the owner has not read the job yet, it ends when it is read.
            let held = "select count(*) from tidemill.unique_key";
            until("its key is free", async || (world.count(held).await == 0).then_some(())).await;
        }
    }
    assert_eq!(world.count("select count(*) from tidemill.unique_key").await, 0);
}

#[tokio::test]
async fn an_open_transaction_is_a_conflict_and_a_dead_letter_waits_for_its_key() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    let id = fresh(&mut world, &node, &json!({})).await;
    let job = one(&node, false).await;
    assert_eq!(node.result(&job, "perm_fail").await, "ok");

    let open = world.db.client().await;
    open.batch_execute(
        "begin; select tidemill.insert_job('mail', 't', null, '{\"unique\": {\"key\": \"welcome-7\"}}')",
    )
    .await
    .unwrap();
    for said in [produce(&node).await, node.send(JOBS, LINES, unique(&json!({})).to_string()).await] {
        assert_eq!((said.status, &said.body["type"]), (409, &json!("/problems/conflict")), "{said:?}");
        assert_eq!(said.retry_after.as_deref(), Some("1"));
        assert!(said.body["detail"].as_str().unwrap().contains("unique key"), "{said:?}");
    }
    // A worker that replaces its job: the owner does not wait, the stream waits as a producer does. Its lease is live.
    node.post(JOBS, json!({"type": "parent"})).await.good();
    world.tick().await;
    let parent = one(&node, false).await;
    let said = finish(&node, &parent, json!({"outcome": "replace", "jobs": [unique(&json!({}))]})).await;
    assert_eq!(said["answer"], "refused");
    let stream = format!("/v1/leases/{}/replace", parent["lease"].as_str().unwrap());
    let said = node.send(&stream, LINES, unique(&json!({})).to_string()).await;
    assert!(said.problem(503, "unavailable").contains("unique key"), "{said:?}");
    open.batch_execute("commit").await.unwrap();
    assert_eq!(node.send(&stream, LINES, unique(&json!({})).to_string()).await.status, 200);
    assert_eq!(produce(&node).await.status, 200);

    let redrive = async || {
        node.post("/v1/queues/mail/dead/redrive", json!({"ids": [id]})).await.good()["redriven"].clone()
    };
    assert_eq!(redrive().await, "0", "another job has its key");
    world.tick().await;
    let other = one(&node, false).await;
    assert_eq!(node.result(&other, "complete").await, "ok");
    assert_eq!(redrive().await, "1");
    is_there(&produce(&node).await, &id);
}
