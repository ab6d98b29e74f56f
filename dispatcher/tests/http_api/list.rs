//! Lists of jobs: in pages, by state and type.

#![expect(clippy::unwrap_used, reason = "a failure here is the test's")]

use crate::support::{Node, World};
use serde_json::json;

/// The ids on each page.
async fn pages(node: &Node, query: &str) -> Vec<Vec<String>> {
    let (mut pages, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = node.get(&format!("/v1/queues/mail/jobs?{query}{cursor}")).await.good();
        let ids = page["jobs"].as_array().unwrap().iter();
        pages.push(ids.map(|job| job["id"].as_str().unwrap().to_owned()).collect());
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return pages,
        }
    }
}

#[tokio::test]
async fn waiting_and_dead_jobs_are_listed_in_pages() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    let delayed = |kind: &str| json!({"type": kind, "delay_ms": 3_600_000});
    let jobs = json!({"jobs": [delayed("a"), delayed("b"), delayed("a"), {"type": "c"}]});
    let jobs = node.post("/v1/queues/mail/jobs", jobs).await.good()["jobs"].clone();
    let id = |n: usize| jobs[n]["id"].as_str().unwrap().to_owned();
    assert_eq!(pages(&node, "").await, [vec![id(0), id(1), id(2)]]);
    assert_eq!(pages(&node, "state=waiting&limit=2").await, [vec![id(0), id(1)], vec![id(2)]]);
    assert_eq!(pages(&node, "type=b&limit=1").await, [vec![], vec![id(1)], vec![], vec![]]);
    assert_eq!(pages(&node, "state=dead").await, [Vec::<String>::new()]);

    world.tick().await;
    let job = node.grab(&["mail"]).await.remove(0);
    assert_eq!(node.result(&job, "perm_fail").await, "ok");
    assert_eq!(pages(&node, "state=dead&type=c&limit=1").await, [vec![id(3)], vec![]]);
    assert_eq!(pages(&node, "state=dead&type=a").await, [Vec::<String>::new()]);
    let dead = node.get("/v1/queues/mail/jobs?state=dead").await.good()["jobs"][0].clone();
    assert_eq!((&dead["state"], &dead["attempts"]), (&json!("dead"), &json!(1)));

    let said = node.get("/v1/queues/mail/jobs?state=ready").await;
    assert!(said.problem(400, "invalid-request").contains("not supported yet"));
    for query in ["state=lost", "limit=0", "cursor=x", "state=dead&cursor=1", "colour=red"] {
        node.get(&format!("/v1/queues/mail/jobs?{query}")).await.problem(400, "invalid-request");
    }
    node.get("/v1/queues/nowhere/jobs").await.problem(404, "unknown-queue");
}
