//! Pausing: nothing of it is handed out, everything else goes on, and a new owner knows.

#![expect(clippy::unwrap_used, reason = "a failure here is the test's")]

use crate::support::{Node, Said, World, grab, until};
use serde_json::{Value, json};

async fn pause(node: &Node, what: Value) -> Said {
    node.post("/v1/queues/mail/pause", what).await
}

async fn resume(node: &Node, what: Value) -> Said {
    node.post("/v1/queues/mail/resume", what).await
}

/// What of the queue is paused.
async fn paused(node: &Node) -> (bool, Value, Value) {
    let info = node.get("/v1/queues/mail").await.good();
    (info["paused"].as_bool().unwrap(), info["paused_types"].clone(), info["paused_keys"].clone())
}

async fn grabbed(node: &Node, wait_ms: u64) -> Vec<String> {
    let said = node.post("/v1/grab", grab(&["mail"], wait_ms)).await.good();
    let id = |job: &Value| job["id"].as_str().unwrap().to_owned();
    said["jobs"].as_array().unwrap().iter().map(id).collect()
}

/// Jobs 1 of type a, 2 of type b, 3 of type a with a key.
async fn produce(world: &mut World, node: &Node) {
    let jobs = json!([{"type": "a"}, {"type": "b"}, {"type": "a", "key": "tenant-9"}]);
    node.post("/v1/queues/mail/jobs", json!({ "jobs": jobs })).await.good();
    world.tick().await;
    until("the jobs are read", async || {
        let sql = "select count(*) from tidemill.owner where epoch > 0";
        let info = node.get("/v1/queues/mail/jobs?state=ready").await.good();
        (world.count(sql).await == 1 && info["jobs"].as_array().unwrap().len() == 3).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_paused_queue_hands_nothing_out_and_goes_on_when_it_is_resumed() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    let mut other = world.node(&[]).await;
    other.look(&mut world).await;
    world.produce("mail", "t", 1).await;
    let running = node.grab(&["mail"]).await.remove(0);

    let said = said_paused(pause(&other, json!({})).await);
    assert_eq!(said, (true, json!([]), json!([])));
    assert_eq!(paused(&node).await, (true, Value::Null, Value::Null));
    produce(&mut world, &node).await;
    assert_eq!(grabbed(&node, 50).await, [""; 0], "it waits as if there were nothing");
    assert_eq!(node.result(&running, "complete").await, "ok");
    let waits = grabbed(&node, 10_000);
    let resumes = async {
        let without_a_body =
            node.request(reqwest::Method::POST, "/v1/queues/mail/resume").send().await.unwrap();
        crate::support::said(without_a_body).await.good()
    };
    let (jobs, said) = tokio::join!(waits, resumes);
    assert_eq!((jobs.len(), &said["paused"]), (3, &json!(false)));
    assert_eq!(paused(&node).await, (false, Value::Null, Value::Null));
}

/// The body of an answer, taken apart.
fn said_paused(said: Said) -> (bool, Value, Value) {
    let body = said.good();
    (body["paused"].as_bool().unwrap(), body["paused_types"].clone(), body["paused_keys"].clone())
}

#[tokio::test]
async fn types_and_keys_are_paused_by_themselves() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    produce(&mut world, &node).await;
    pause(&node, json!({"types": ["b"], "keys": ["tenant-9"]})).await.good();
    pause(&node, json!({})).await.good();
    assert_eq!(grabbed(&node, 0).await, [""; 0]);
    resume(&node, json!({})).await.good();
    assert_eq!(paused(&node).await, (false, json!(["b"]), json!(["tenant-9"])), "each by itself");
    assert_eq!(grabbed(&node, 0).await, ["1"]);
    assert_eq!(
        said_paused(resume(&node, json!({"types": ["b", "c"]})).await),
        (false, json!([]), json!(["tenant-9"]))
    );
    assert_eq!(grabbed(&node, 0).await, ["2"]);
    resume(&node, json!({"keys": ["tenant-9"]})).await.good();
    assert_eq!(grabbed(&node, 0).await, ["3"]);

    pause(&node, json!({"types": []})).await.fault("/types");
    pause(&node, json!({"types": [""]})).await.fault("/types/0");
    pause(&node, json!({"queue": true})).await.fault("/queue");
    for part in 0..2 {
        let types: Vec<String> = (0..600).map(|n| format!("t{part}-{n}")).collect();
        let said = pause(&node, json!({"types": types})).await;
        assert_eq!(said.status, if part == 0 { 200 } else { 400 }, "{said:?}");
    }
    assert_eq!(world.count("select count(*) from tidemill.paused").await, 600, "all or nothing");
}

#[tokio::test]
async fn a_new_owner_knows_and_whoever_hears_of_it_otherwise() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    pause(&node, json!({"types": ["a"]})).await.good();
    drop(node);
    until("the queue is free", async || {
        let free = "select count(*) from tidemill.owner where until < clock_timestamp()";
        (world.count(free).await == 1).then_some(())
    })
    .await;
    // Nobody owns it now: whoever is asked writes it down.
    let stranger = world.node(&[]).await;
    let said = said_paused(pause(&stranger, json!({"keys": ["tenant-9"]})).await);
    assert_eq!(said, (false, json!(["a"]), json!(["tenant-9"])));
    resume(&stranger, json!({"keys": ["tenant-9"]})).await.good();
    let cancel = stranger.post("/v1/queues/mail/cancel", json!({"cancel_key": "1"})).await;
    cancel.problem(503, "unavailable");
    let mut node = world.node(&["mail"]).await;
    produce(&mut world, &node).await;
    assert_eq!(grabbed(&node, 0).await, ["2"]);
    // As the command line does it: the owner sees it when it looks.
    world.run("select tidemill.pause_queue(1, '{a}', null, false)").await;
    node.look(&mut world).await;
    until("the owner has seen it", async || (grabbed(&node, 0).await == ["1", "3"]).then_some(())).await;
}

#[tokio::test]
async fn a_paused_type_that_fills_the_window_makes_room_for_others() {
    let mut world = World::new(&["mail"]).await;
    world.run(r#"select tidemill.create_job_queue('mail', '{"window_jobs": 4}')"#).await;
    let node = world.node(&["mail"]).await;
    pause(&node, json!({"types": ["a"]})).await.good();
    world.produce("mail", "a", 10).await;
    world.produce("mail", "b", 1).await;
    let got = node.grab(&["mail"]).await;
    assert_eq!((got.len(), &got[0]["type"]), (1, &json!("b")));
    assert_eq!(node.result(&got[0], "complete").await, "ok");
    let parked = "select count(*) from tidemill.waiting where kind = 'parked' and ev_type = 'a'";
    assert!(world.count(parked).await >= 8);
    resume(&node, json!({"types": ["a"]})).await.good();
    let mut done = 0;
    until("they come back", async || {
        world.tick().await;
        for job in node.post("/v1/grab", grab(&["mail"], 100)).await.good()["jobs"].as_array().unwrap() {
            assert_eq!(node.result(job, "complete").await, "ok");
            done += 1;
        }
        (done == 10).then_some(())
    })
    .await;
}
