//! A queue, looked at: how fast its jobs go through, and how much of its log is held in memory.

use serde_json::{Value, json};

use crate::support::{Node, World, grab, until};

const MAIL: &str = "/v1/queues/mail";

async fn rates(node: &Node) -> Value {
    node.get(MAIL).await.good()["rates"].clone()
}

#[tokio::test]
async fn rates_tell_how_fast_jobs_go_through() {
    let mut world = World::new(&["mail"]).await;
    let mut nobody = world.node(&[]).await;
    assert_eq!(rates(&nobody).await, Value::Null, "nobody owns it");
    let node = world.node(&["mail"]).await;
    nobody.look(&mut world).await;
    let none = json!({"loaded": 0.0, "leased": 0.0, "completed": 0.0, "failed": 0.0});
    assert_eq!((rates(&node).await, rates(&nobody).await), (none.clone(), none));

    world.produce("mail", "a", 12).await;
    let mut jobs = Vec::new();
    while jobs.len() < 12 {
        let mut wanted = grab(&["mail"], 10_000);
        // Some of the leases live in the waiting room.
        (wanted["max"], wanted["transactional"]) = (json!(1), json!(jobs.len() % 2 == 0));
        jobs.push(node.post("/v1/grab", wanted).await.good()["jobs"][0].clone());
    }
    for (n, job) in jobs.iter().enumerate() {
        let outcome = match n / 2 {
            0..=2 => json!({"outcome": "complete"}),
            3 => json!({"outcome": "replace", "jobs": []}),
            4 => json!({"outcome": "temp_fail", "message": "451"}),
            _ => json!({"outcome": "decline"}),
        };
        let mut result = json!({"lease": job["lease"]});
        result.as_object_mut().unwrap().append(&mut outcome.as_object().unwrap().clone());
        let said = node.post("/v1/results", json!({"results": [result]})).await.good();
        assert_eq!(said["results"][0]["answer"], "ok", "{said}");
    }
    for node in [&node, &nobody] {
        let rates = rates(node).await;
        let rate = |name: &str| rates[name].as_f64().unwrap();
        assert!(rate("loaded") > 0.0 && rate("loaded") <= 12.0, "{rates}");
        let parts = ["leased", "completed", "failed"].map(|name| 12.0 * rate(name) / rate("loaded"));
        assert_eq!(parts.map(f64::round), [12.0, 8.0, 2.0], "{rates}");
    }
}

#[tokio::test]
async fn a_queue_has_a_window_of_its_own_from_the_moment_it_is_set() {
    let mut world = World::new(&["mail"]).await;
    let mut node = world.node(&["mail"]).await;
    let window = async |node: &Node| node.get(MAIL).await.good()["settings"]["window"].clone();
    assert_eq!(window(&node).await, json!({"jobs": 10_000, "bytes": 1 << 24}), "as it is configured");

    let said = node.put(MAIL, json!({"window": {"jobs": 10}})).await.good();
    assert_eq!((&said["window"], &said["lease_ms"]), (&json!({"jobs": 10}), &json!(60_000)));
    node.look(&mut world).await;
    let small = json!({"jobs": 10, "bytes": 1 << 24});
    until("the owner knows", async || (window(&node).await == small).then_some(())).await;
    world.produce("mail", "a", 100).await;
    let ready = async |node: &Node, wanted: u64| {
        until("the window is full", async || (node.get(MAIL).await.good()["ready"] == wanted).then_some(()))
            .await;
    };
    ready(&node, 10).await;
    let page = node.get("/v1/queues/mail/jobs?state=ready").await.good();
    assert_eq!(page["jobs"].as_array().unwrap().len(), 10, "and no more");
    let mut wanted = grab(&["mail"], 0);
    wanted["max"] = json!(4);
    for job in node.post("/v1/grab", wanted).await.good()["jobs"].as_array().unwrap() {
        assert_eq!(node.result(job, "complete").await, "ok");
    }
    ready(&node, 10).await;

    // Stored, and 0 is no window but none of its own.
    drop(node);
    until("the queue is free", async || {
        let free = "select count(*) from tidemill.owner where until < clock_timestamp()";
        (world.count(free).await == 1).then_some(())
    })
    .await;
    let mut node = world.node(&["mail"]).await;
    ready(&node, 10).await;
    let said = node.put(MAIL, json!({"window": {"jobs": 0, "bytes": 2 << 20}})).await.good();
    assert_eq!(said["window"], json!({"bytes": 2 << 20}));
    node.look(&mut world).await;
    ready(&node, 96).await;
    assert_eq!(window(&node).await, json!({"jobs": 10_000, "bytes": 2 << 20}));

    for (field, value) in [("jobs", 10_000_001_u64), ("bytes", 1 << 37), ("bytes", 5)] {
        node.put(MAIL, json!({"window": {field: value}})).await.fault(&format!("/window/{field}"));
    }
    let said = node.put(MAIL, json!({"window": {"rows": 1}})).await;
    assert!(said.problem(400, "invalid-request").contains("rows"));
}
