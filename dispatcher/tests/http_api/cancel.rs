//! Cancelling: what nobody works on ends before the answer, a running handler hears of it, and nothing of it is given out
//! again, whoever owns the queue.

#![expect(clippy::unwrap_used, reason = "a failure here is the test's")]

use std::collections::BTreeSet;

use crate::support::{Node, Said, World, grab, until};
use serde_json::{Value, json};

const CANCEL: &str = "/v1/queues/mail/cancel";

async fn cancel_key(node: &Node, key: &str) -> Said {
    node.post(CANCEL, json!({"cancel_key": key, "code": 7})).await
}

async fn cancel(node: &Node, id: &str) -> Said {
    node.post(&format!("/v1/queues/mail/jobs/{id}/cancel"), json!({"code": 5})).await
}

/// What it came to: cancelled and told.
fn counts(said: Said) -> (String, String) {
    let body = said.good();
    let text = |name: &str| body[name].as_str().unwrap().to_owned();
    (text("cancelled"), text("told"))
}

fn both(cancelled: u64, told: u64) -> (String, String) {
    (cancelled.to_string(), told.to_string())
}

/// Produces jobs with these options, and says their ids.
async fn produce(world: &mut World, node: &Node, jobs: Value) -> Vec<String> {
    let said = node.post("/v1/queues/mail/jobs", json!({ "jobs": jobs })).await.good();
    world.tick().await;
    said["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
}

fn keyed(key: u8, count: usize) -> Value {
    Value::Array(vec![json!({"type": "t", "cancel_key": key.to_string()}); count])
}

async fn state(node: &Node, id: &str) -> String {
    let info = node.get(&format!("/v1/queues/mail/jobs/{id}")).await.good();
    info["state"].as_str().unwrap().to_owned()
}

async fn states(node: &Node, ids: &[String]) -> BTreeSet<String> {
    let mut states = BTreeSet::new();
    for id in ids {
        states.insert(state(node, id).await);
    }
    states
}

/// What a heartbeat of this job says: the answer and the code.
async fn beat(node: &Node, job: &Value) -> (String, i64) {
    let body = json!({"worker": {"instance": uuid::Uuid::new_v4()},
                      "leases": [{"lease": job["lease"], "extend_ms": 60_000}]});
    let said = node.post("/v1/heartbeat", body).await.good()["leases"][0].clone();
    (said["answer"].as_str().unwrap().to_owned(), said["cancel"].as_i64().unwrap())
}

fn told(code: i64) -> (String, i64) {
    ("ok".to_owned(), code)
}

async fn nothing_is_given_out(node: &Node) {
    let said = node.post("/v1/grab", grab(&["mail"], 0)).await.good();
    assert_eq!(said["jobs"], json!([]));
}

/// Waits until the engine has read so many jobs that are ready.
async fn loaded(node: &Node, count: u64) {
    until("the jobs are read", async || {
        (node.get("/v1/queues/mail").await.good()["ready"] == count).then_some(())
    })
    .await;
}

async fn freed(world: &mut World) {
    until("the queue is free", async || {
        let free = "select count(*) from tidemill.owner where until < clock_timestamp()";
        (world.count(free).await == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_waits_ends_and_what_runs_is_told() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    let running = produce(&mut world, &node, keyed(42, 2)).await;
    let jobs = node.grab(&["mail"]).await;
    assert_eq!((jobs.len(), beat(&node, &jobs[0]).await), (2, told(0)));
    let ready = produce(&mut world, &node, keyed(42, 3)).await;
    let delayed = json!([{"type": "t", "cancel_key": "42", "delay_ms": 3_600_000, "args": {"a": 1}}]);
    let delayed = produce(&mut world, &node, delayed).await;
    let others = produce(&mut world, &node, keyed(43, 1)).await;
    loaded(&node, 4).await;

    assert_eq!(counts(cancel_key(&node, "42").await), both(4, 2));
    assert_eq!(states(&node, &[ready, delayed.clone()].concat()).await, ["cancelled".to_owned()].into());
    let info = node.get(&format!("/v1/queues/mail/jobs/{}", delayed[0])).await.good();
    assert_eq!((&info["args"], &info["options"]["cancel_key"]), (&json!({"a": 1}), &json!("42")));
    assert_eq!(states(&node, &running).await, ["leased".to_owned()].into());
    for job in &jobs {
        assert_eq!(beat(&node, job).await, told(7));
    }
    // The handlers decide: one is done, the other gives up, and is not tried again.
    assert_eq!(node.result(&jobs[0], "complete").await, "ok");
    assert_eq!(node.result(&jobs[1], "temp_fail").await, "cancelled");
    assert_eq!(node.result(&jobs[1], "temp_fail").await, "cancelled", "as often as it is said");
    assert_eq!(
        (state(&node, &running[0]).await, state(&node, &running[1]).await),
        ("done".into(), "cancelled".into())
    );

    assert_eq!(counts(cancel_key(&node, "42").await), both(0, 0), "again is harmless");
    let later = produce(&mut world, &node, keyed(42, 1)).await;
    let left: BTreeSet<String> = [later, others].concat().into_iter().collect();
    loaded(&node, 2).await;
    let got = node.grab(&["mail"]).await;
    assert_eq!(got.iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>(), left);
    assert_eq!(beat(&node, &got[0]).await, told(0), "what came later is another matter");
    assert_eq!(world.count("select count(*) from tidemill.waiting").await, 0);
}

#[tokio::test]
async fn one_job_is_cancelled_wherever_it_is() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    let mut other = world.node(&[]).await;
    other.look(&mut world).await;
    let plain = json!([{"type": "t"}, {"type": "t"}, {"type": "t"}, {"type": "t"}]);
    let ids = produce(&mut world, &node, plain).await;
    loaded(&node, 4).await;
    assert_eq!(counts(cancel(&other, &ids[0]).await), both(1, 0), "whoever is asked");
    assert_eq!(counts(cancel(&node, &ids[0]).await), both(0, 0), "again is harmless");

    let jobs = node.grab(&["mail"]).await;
    assert_eq!(jobs.len(), 3);
    assert_eq!(counts(cancel(&node, &ids[1]).await), both(0, 1));
    assert_eq!((beat(&other, &jobs[0]).await, beat(&node, &jobs[1]).await), (told(5), told(0)));
    assert_eq!(node.result(&jobs[0], "decline").await, "cancelled");
    assert_eq!(beat(&node, &jobs[0]).await.0, "stale");

    assert_eq!(node.result(&jobs[1], "temp_fail").await, "ok");
    assert_eq!(state(&node, &ids[2]).await, "waiting");
    assert_eq!(counts(cancel(&node, &ids[2]).await), both(1, 0), "it waited for its retry");
    assert_eq!(states(&node, &ids[..3]).await, ["cancelled".to_owned()].into());
    let info = node.get(&format!("/v1/queues/mail/jobs/{}", ids[2])).await.good();
    assert_eq!((&info["attempts"], info["failures"].as_array().unwrap().len()), (&json!(1), 1));

    assert_eq!(node.result(&jobs[2], "perm_fail").await, "ok");
    cancel(&node, &ids[3]).await.problem(409, "conflict");
    for nobody in ["99", "x", "01"] {
        cancel(&node, nobody).await.problem(404, "unknown-job");
    }
    let done = produce(&mut world, &node, json!([{"type": "t"}])).await;
    let job = node.grab(&["mail"]).await.remove(0);
    node.result(&job, "complete").await;
    cancel(&node, &done[0]).await.problem(404, "unknown-job");
    let zero = json!({"code": 0});
    node.post(&format!("/v1/queues/mail/jobs/{}/cancel", ids[0]), zero).await.fault("/code");
    nothing_is_given_out(&node).await;
    let left = "select count(*) from tidemill.cancelling";
    assert_eq!(world.count(left).await, 0, "what has ended leaves nothing behind");
}

#[tokio::test]
async fn what_is_not_read_yet_is_hit_too() {
    let mut world = World::new(&["mail"]).await;
    world.run(r#"select tidemill.create_job_queue('mail', '{"window_jobs": 2}')"#).await;
    let node = world.node(&["mail"]).await;
    let first = produce(&mut world, &node, json!([{"type": "t"}, {"type": "t"}])).await;
    loaded(&node, 2).await;
    let unread = produce(&mut world, &node, keyed(42, 5)).await;
    let single = produce(&mut world, &node, json!([{"type": "t"}])).await;
    // Their transaction is open while the others are cancelled: they come later.
    let late = world.db.client().await;
    late.batch_execute("begin; select tidemill.insert_job('mail', 't', null, '{\"cancel_key\": 42}')")
        .await
        .unwrap();
    assert_eq!(counts(cancel_key(&node, "42").await), both(0, 0), "nobody has counted them");
    assert_eq!(counts(cancel(&node, &single[0]).await), both(1, 0));
    assert_eq!(
        states(&node, &[unread.clone(), single.clone()].concat()).await,
        ["cancelled".to_owned()].into()
    );
    late.batch_execute("commit").await.unwrap();
    world.tick().await;

    for job in node.grab(&["mail"]).await {
        assert!(first.contains(&job["id"].as_str().unwrap().to_owned()), "{job}");
        assert_eq!(node.result(&job, "complete").await, "ok");
    }
    let job = node.grab(&["mail"]).await.remove(0);
    assert_eq!(job["id"], "9", "the one that was inserted later");
    assert_eq!(node.result(&job, "complete").await, "ok");
    nothing_is_given_out(&node).await;
    assert_eq!(states(&node, &[unread, single].concat()).await, ["cancelled".to_owned()].into());
}

#[tokio::test]
async fn a_new_owner_goes_on_with_it() {
    let mut world = World::new(&["mail"]).await;
    world.run(r#"select tidemill.create_job_queue('mail', '{"window_jobs": 2}')"#).await;
    let node = world.node(&["mail"]).await;
    let running = produce(&mut world, &node, keyed(42, 2)).await;
    let jobs = node.grab(&["mail"]).await;
    assert_eq!(jobs.len(), 2);
    let unread = produce(&mut world, &node, keyed(42, 3)).await;
    assert_eq!(counts(cancel_key(&node, "42").await), both(0, 2));
    drop(node);
    freed(&mut world).await;

    let node = world.node(&["mail"]).await;
    until("the leases are known again", async || (beat(&node, &jobs[0]).await == told(7)).then_some(()))
        .await;
    assert_eq!(node.result(&jobs[0], "temp_fail").await, "cancelled");
    assert_eq!(node.result(&jobs[1], "complete").await, "ok");
    loaded(&node, 0).await;
    nothing_is_given_out(&node).await;
    until("the others are read, and end", async || {
        (states(&node, &unread).await == ["cancelled".to_owned()].into()).then_some(())
    })
    .await;
    drop(node);
    freed(&mut world).await;
    let node = world.node(&["mail"]).await;
    until("it is owned again", async || {
        (node.get(&format!("/v1/queues/mail/jobs/{}", running[0])).await.status == 200).then_some(())
    })
    .await;
    until("the journal is read", async || {
        (node.result(&jobs[0], "temp_fail").await == "cancelled").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_worker_with_a_transaction_of_its_own_is_told_and_never_waited_for() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    produce(&mut world, &node, keyed(42, 3)).await;
    let mut wanted = grab(&["mail"], 10_000);
    wanted["transactional"] = json!(true);
    let jobs = node.post("/v1/grab", wanted).await.good()["jobs"].as_array().unwrap().clone();
    assert_eq!(jobs.len(), 3);
    let complete =
        |job: &Value| format!("select tidemill.complete_job('{}')", job["lease"].as_str().unwrap());
    let worker = world.db.client().await;
    worker.batch_execute(&format!("begin; {}; {}", complete(&jobs[0]), complete(&jobs[1]))).await.unwrap();

    assert_eq!(counts(cancel_key(&node, "42").await), both(0, 3));
    assert_eq!(beat(&node, &jobs[2]).await, told(7));
    worker.batch_execute("rollback").await.unwrap();
    assert_eq!(beat(&node, &jobs[0]).await, told(7));
    assert_eq!(node.result(&jobs[0], "temp_fail").await, "cancelled");
    worker.batch_execute(&complete(&jobs[1])).await.unwrap();
    assert_eq!(node.result(&jobs[2], "complete").await, "ok");
    let end = async |n: usize| state(&node, jobs[n]["id"].as_str().unwrap()).await;
    assert_eq!(
        (end(0).await, end(1).await, end(2).await),
        ("cancelled".into(), "done".into(), "done".into())
    );
    assert_eq!(world.count("select count(*) from tidemill.waiting").await, 0);
    nothing_is_given_out(&node).await;
}

#[tokio::test]
async fn a_lease_that_ends_without_a_result_ends_the_job() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    let ids = produce(&mut world, &node, keyed(42, 1)).await;
    let mut wanted = grab(&["mail"], 10_000);
    wanted["lease_ms"] = json!(1_000);
    let job = node.post("/v1/grab", wanted).await.good()["jobs"][0].clone();
    assert_eq!(counts(cancel(&node, &ids[0]).await), both(0, 1));
    until("the lease ends", async || (state(&node, &ids[0]).await == "cancelled").then_some(())).await;
    assert_eq!(node.result(&job, "complete").await, "cancelled", "too late");
    nothing_is_given_out(&node).await;
}

#[tokio::test]
async fn workers_that_grab_meanwhile_are_told() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    produce(&mut world, &node, keyed(42, 200)).await;
    loaded(&node, 200).await;
    let grabs = futures_util::future::join_all((0..4).map(|n| {
        let mut wanted = grab(&["mail"], 0);
        (wanted["max"], wanted["transactional"]) = (json!(20), json!(n % 2 == 0));
        node.post("/v1/grab", wanted)
    }));
    let (said, grabbed) = tokio::join!(cancel_key(&node, "42"), grabs);
    let jobs: Vec<Value> =
        grabbed.into_iter().flat_map(|said| said.good()["jobs"].as_array().unwrap().clone()).collect();
    assert_eq!(counts(said), both(200 - jobs.len() as u64, jobs.len() as u64));
    for job in &jobs {
        assert_eq!(beat(&node, job).await, told(7));
    }
    nothing_is_given_out(&node).await;
}
