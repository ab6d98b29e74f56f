//! A thousand workers that wait cost a thousand sockets, and no more database connections than one.

use crate::support::{World, grab, until};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::json;
use tidemill_dispatcher::http::Limits;

const POLLS: usize = 1_000;

#[tokio::test]
async fn a_thousand_long_polls_share_a_few_connections() {
    let mut world = World::new(&["mail"]).await;
    let limits = Limits { polls: POLLS, ..Limits::default() };
    let node = world.node_with(&["mail"], limits, None).await;
    // Below, the one who looks whether all wait takes a place for a moment: who finds none then asks again.
    let poll = async || loop {
        let said = node.post("/v1/grab", grab(&["mail"], 30_000)).await;
        if said.status != 429 {
            return said;
        }
    };
    let mut waiting: FuturesUnordered<_> = (0..POLLS).map(|_| poll()).collect();
    let steer = async {
        // A queue that nobody has seen is looked for in the database; the limit comes before that.
        until("all wait", async || {
            let said = node.post("/v1/grab", grab(&["nowhere"], 1)).await;
            if said.status == 404 {
                return None;
            }
            said.problem(429, "too-many-requests");
            Some(())
        })
        .await;
        // Not waiting is never refused.
        assert_eq!(node.post("/v1/grab", grab(&["mail"], 0)).await.status, 200);
        let connections = "select count(*) from pg_stat_activity where application_name like 'tidemill-dispatcher%' \
             and datname = current_database()";
        assert!((1..=8).contains(&world.count(connections).await));
        world.produce("mail", "send", 1).await;
    };
    let first = async {
        let first = waiting.next().await.unwrap();
        assert_eq!(first.good()["jobs"].as_array().unwrap().len(), 1, "one of them got the job");
    };
    tokio::join!(steer, first);
    // The others still wait; they are answered when the dispatcher leaves.
    node.shutdown.begin();
    let others: Vec<_> = waiting.collect().await;
    assert_eq!(others.len(), POLLS - 1);
    for said in others {
        assert_eq!(said.good()["jobs"], json!([]));
    }
}
