//! Anything may be sent to any dispatcher: it goes to the queue's owner, one hop, and no further.

use crate::support::{World, grab, said};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn each_queue_is_served_by_its_owner_whoever_is_asked() {
    let mut world = World::new(&["a", "b", "c"]).await;
    let mut one = world.node(&["a"]).await;
    let two = world.node(&["b"]).await;
    one.look(&mut world).await;
    world.produce("a", "send", 2).await;
    world.produce("b", "send", 2).await;
    let mut jobs: Vec<Value> = Vec::new();
    while jobs.len() < 4 {
        jobs.extend(one.grab(&["b", "a"]).await);
    }
    jobs.sort_by_key(|job| {
        (job["id"].as_str().unwrap().to_owned(), job["queue"].as_str().unwrap().to_owned())
    });
    let queues: Vec<_> = jobs.iter().map(|job| job["queue"].as_str().unwrap()).collect();
    assert_eq!(queues, ["a", "b", "a", "b"]);

    // Leases of both owners, of no owner and of nobody at all in one request, answered in its order.
    let no_owner = jobs[0]["lease"].as_str().unwrap().replacen("l-1-", "l-3-", 1);
    let leases = [
        &jobs[0]["lease"],
        &jobs[1]["lease"],
        &json!("x"),
        &json!(no_owner),
        &jobs[3]["lease"],
        &jobs[2]["lease"],
    ];
    let beats: Vec<Value> = leases.iter().map(|lease| json!({"lease": lease, "extend_ms": 90_000})).collect();
    let beat = json!({"worker": {"instance": uuid::Uuid::new_v4()}, "leases": beats});
    let results: Vec<Value> =
        leases.iter().map(|lease| json!({"lease": lease, "outcome": "complete"})).collect();
    let expected = ["ok", "ok", "stale", "unavailable", "ok", "ok"];
    for (path, body, list) in
        [("/v1/heartbeat", beat, "leases"), ("/v1/results", json!({"results": results}), "results")]
    {
        let said = one.post(path, body).await.good();
        let answers: Vec<_> =
            said[list].as_array().unwrap().iter().map(|item| item["answer"].as_str().unwrap()).collect();
        assert_eq!(answers, expected, "{path}");
        let named: Vec<_> = said[list].as_array().unwrap().iter().map(|item| &item["lease"]).collect();
        assert_eq!(named, leases, "{path}");
    }

    let info = one.get("/v1/queues/b").await.good();
    assert_eq!((&info["owner"]["address"], &info["queue"]), (&json!(two.address), &json!("b")));
    let list = one.get("/v1/queues").await.good();
    let owners: Vec<_> =
        list["queues"].as_array().unwrap().iter().map(|info| &info["owner"]["address"]).collect();
    assert_eq!(owners, [&json!(one.address), &json!(two.address), &Value::Null]);
    let done = format!("/v1/queues/b/jobs/{}", jobs[1]["id"].as_str().unwrap());
    assert_eq!(one.get(&done).await.good()["state"], "done");

    // One hop only, whatever the header says.
    for (method, path, body) in [
        (Method::POST, "/v1/grab", Some(grab(&["b"], 0))),
        (
            Method::POST,
            "/v1/results",
            Some(json!({"results": [{"lease": jobs[1]["lease"], "outcome": "complete"}]})),
        ),
    ] {
        let request = one.request(method, path).header("x-tidemill-forwarded", "somebody").json(&body);
        let said = said(request.send().await.unwrap()).await;
        match path {
            "/v1/grab" => drop(said.problem(503, "unavailable")),
            _ => assert_eq!(said.good()["results"][0]["answer"], "unavailable"),
        }
    }
}

#[tokio::test]
async fn results_and_a_grab_for_somebody_else_travel_together() {
    let mut world = World::new(&["a", "b"]).await;
    let mut one = world.node(&["a"]).await;
    let _two = world.node(&["b"]).await;
    one.look(&mut world).await;
    world.produce("a", "send", 1).await;
    world.produce("b", "send", 1).await;
    let (a, b) = (one.grab(&["a"]).await.remove(0), one.grab(&["b"]).await.remove(0));
    for (jobs, expected) in [(vec![&a, &b], "ok"), (vec![&b], "already")] {
        let mut body = grab(&["b"], 0);
        body["results"] =
            jobs.iter().map(|job| json!({"lease": job["lease"], "outcome": "complete"})).collect();
        let said = one.post("/v1/grab", body).await.good();
        let results: Vec<Value> =
            jobs.iter().map(|job| json!({"lease": job["lease"], "answer": expected})).collect();
        assert_eq!(said["results"], json!(results));
    }
}

#[tokio::test]
async fn an_owner_that_cannot_be_reached_is_named() {
    let mut world = World::new(&["a", "b"]).await;
    let mut one = world.node(&["a"]).await;
    let mut two = world.node(&["b"]).await;
    one.look(&mut world).await;
    world.produce("b", "send", 1).await;
    let job = one.grab(&["b"]).await.remove(0);
    // Its API is gone; its ownership is not.
    two.shutdown.begin();
    two.serving.take().unwrap().await.unwrap().unwrap();
    let said = one.post("/v1/grab", grab(&["b"], 0)).await;
    assert!(said.problem(503, "unavailable").contains(&two.address));
    one.get("/v1/queues/b").await.problem(503, "unavailable");
    assert_eq!(one.result(&job, "complete").await, "unavailable");
    assert_eq!(one.get("/v1/queues").await.good()["queues"][1]["owner"], Value::Null);
    assert_eq!(
        one.post("/v1/queues/b/jobs", json!({"type": "t"})).await.status,
        201,
        "producing needs no owner"
    );
    let both = one.post("/v1/grab", grab(&["a", "b"], 0)).await.good();
    assert_eq!(both["jobs"], json!([]), "the other queue is served");
}
