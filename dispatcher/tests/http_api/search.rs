//! Grabs with `where`: by arguments, by coalescing key, by id.

#![expect(clippy::unwrap_used, reason = "a failure here is the test's")]

use crate::support::{Node, World, grab};
use serde_json::{Value, json};

async fn search(node: &Node, wanted: Value, wait_ms: u64) -> Vec<Value> {
    let mut body = grab(&["mail"], wait_ms);
    body["where"] = wanted;
    node.post("/v1/grab", body).await.good()["jobs"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_grab_takes_only_what_it_searches_for_and_wakes_when_it_comes() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    let jobs = json!({"jobs": [
        {"type": "send", "args": {"customer": 7, "to": ["a", "b"]}, "coalesce_key": "gmail.com:1", "key": "tenant-7"},
        {"type": "send", "args": {"customer": 8}, "coalesce_key": "gmail.com:2"},
        {"type": "send", "args": {"customer": 7}},
    ]});
    node.post("/v1/queues/mail/jobs", jobs).await.good();
    world.tick().await;
    let both = json!({"args": {"to": ["b"]}, "coalesce_key": {"prefix": "gmail.com"}});
    let found = search(&node, both, 10_000).await;
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0]["id"], &found[0]["key"]), (&json!("1"), &json!("tenant-7")));
    assert_eq!(found[0]["coalesce_key"], "gmail.com:1");
    assert_eq!(found[0]["extra"], Value::Null);
    assert!(search(&node, json!({"id": "nobodys"}), 0).await.is_empty());
    assert!(search(&node, json!({"coalesce_key": "gmail.com"}), 0).await.is_empty());
    assert_eq!(search(&node, json!({"id": "3"}), 0).await[0]["args"], json!({"customer": 7}));

    let comes = async {
        for customer in [9, 10] {
            node.post("/v1/queues/mail/jobs", json!({"type": "send", "args": {"customer": customer}}))
                .await
                .good();
            world.tick().await;
        }
    };
    let (found, ()) = tokio::join!(search(&node, json!({"args": {"customer": 10}}), 10_000), comes);
    assert_eq!(found[0]["args"], json!({"customer": 10}));
    assert_eq!(node.grab(&["mail"]).await.len(), 2, "the others are where they were");
}
