//! Lists of jobs: in pages, by state and type.

#![expect(clippy::unwrap_used, reason = "a failure here is the test's")]

use crate::support::{Node, World, grab};
use serde_json::{Value, json};

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

    let said = node.get("/v1/queues/mail/jobs?state=done").await;
    assert!(said.problem(400, "invalid-request").contains("`leased`"));
    let wrong =
        ["state=lost", "limit=0", "cursor=x", "state=ready&cursor=x", "state=dead&cursor=1", "colour=red"];
    for query in wrong {
        node.get(&format!("/v1/queues/mail/jobs?{query}")).await.problem(400, "invalid-request");
    }
    node.get("/v1/queues/nowhere/jobs").await.problem(404, "unknown-queue");
}

/// A lease of its own kind: it lives in the waiting room.
async fn transactional(node: &Node) -> Value {
    let mut wanted = grab(&["mail"], 10_000);
    (wanted["transactional"], wanted["max"]) = (json!(true), json!(1));
    node.post("/v1/grab", wanted).await.good()["jobs"][0].clone()
}

#[tokio::test]
async fn ready_and_leased_jobs_are_listed_in_pages_also_by_a_dispatcher_that_does_not_own_the_queue() {
    let mut world = World::new(&["mail"]).await;
    let owner = world.node(&["mail"]).await;
    let mut other = world.node(&[]).await;
    other.look(&mut world).await;
    assert_eq!(pages(&other, "state=ready").await, [Vec::<String>::new()]);
    world.produce("mail", "a", 3).await;
    world.produce("mail", "b é", 2).await;
    // The first in the window, the second in the waiting room, and so on.
    let mut leased = Vec::new();
    for n in 0..4 {
        leased.push(match n % 2 {
            0 => {
                let mut wanted = grab(&["mail"], 10_000);
                wanted["max"] = json!(1);
                owner.post("/v1/grab", wanted).await.good()["jobs"][0].clone()
            }
            _ => transactional(&owner).await,
        });
    }
    let ids = |ids: &[u8]| ids.iter().map(u8::to_string).collect::<Vec<_>>();
    for node in [&owner, &other] {
        assert_eq!(pages(node, "state=leased").await, [ids(&[1, 2, 3, 4])]);
        assert_eq!(pages(node, "state=leased&limit=3").await, [ids(&[1, 2, 3]), ids(&[4])]);
        assert_eq!(pages(node, "state=leased&limit=2").await, [ids(&[1, 2]), ids(&[3, 4]), vec![]]);
        assert_eq!(pages(node, "state=leased&type=a").await, [ids(&[1, 2, 3])]);
        assert_eq!(pages(node, "state=leased&type=b%20%C3%A9").await, [ids(&[4])]);
        assert_eq!(pages(node, "state=ready&type=b+%C3%A9&limit=1").await, [ids(&[5]), vec![]]);
        assert_eq!(pages(node, "state=ready&type=a").await, [Vec::<String>::new()]);
        assert_eq!(pages(node, "state=waiting").await, [Vec::<String>::new()]);
    }
    let page = other.get("/v1/queues/mail/jobs?state=leased&cursor=3").await.good();
    let job = &page["jobs"][0];
    assert_eq!((&job["state"], &job["attempts"], &job["type"]), (&json!("leased"), &json!(1), &json!("b é")));
    let info = other.get("/v1/queues/mail").await.good();
    assert_eq!((&info["ready"], &info["leased"], &info["waiting"]), (&json!(1), &json!(4), &json!(0)));

    assert_eq!(owner.result(&leased[0], "decline").await, "ok");
    world.run(&format!("select tidemill.complete_job('{}')", leased[1]["lease"].as_str().unwrap())).await;
    assert_eq!(pages(&other, "state=ready").await, [ids(&[1, 5])]);
    assert_eq!(pages(&other, "state=leased").await, [ids(&[3, 4])]);
}

#[tokio::test]
async fn nobody_knows_the_ready_jobs_of_a_queue_without_an_owner() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&[]).await;
    world.produce("mail", "a", 1).await;
    for state in ["ready", "leased"] {
        node.get(&format!("/v1/queues/mail/jobs?state={state}")).await.problem(503, "unavailable");
    }
    assert_eq!(pages(&node, "state=waiting").await, [Vec::<String>::new()]);
}
