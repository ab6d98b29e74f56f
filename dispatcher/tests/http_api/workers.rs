//! Who works, and what workers are told.

#![expect(clippy::unwrap_used, reason = "a failure here is the test's")]

use std::time::Duration;

use futures_util::FutureExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tidemill_dispatcher::http::{Limits, Tokens};
use uuid::Uuid;

use crate::support::{Node, World, grab, until};

/// A worker that grabs.
struct Worker {
    instance: String,
    body: Value,
}

impl Worker {
    fn new(host: &str, queues: &[&str]) -> Self {
        let instance = Uuid::new_v4().to_string();
        let mut body = grab(queues, 0);
        body["worker"] =
            json!({"instance": instance, "host": host, "pid": 7, "name": "mailer", "version": "1.4"});
        Self { instance, body }
    }

    /// Asks for one job.
    async fn grab(&self, node: &Node) -> Value {
        let mut body = self.body.clone();
        body["max"] = json!(1);
        node.post("/v1/grab", body).await.good()
    }

    /// Gets one job.
    async fn job(&self, node: &Node) -> Value {
        let mut body = self.body.clone();
        (body["max"], body["wait_ms"]) = (json!(1), json!(10_000));
        let mut said = node.post("/v1/grab", body).await.good();
        assert_eq!((said["jobs"].as_array().unwrap().len(), &said["state"]), (1, &json!("run")));
        said["jobs"][0].take()
    }

    /// Says that it lives.
    async fn beat(&self, node: &Node) -> Value {
        let body = json!({"worker": {"instance": self.instance}, "leases": []});
        node.post("/v1/heartbeat", body).await.good()["state"].clone()
    }

    async fn order(&self, node: &Node, verb: &str) -> Value {
        let said = node.post(&format!("/v1/workers/{}/{verb}", self.instance), json!({})).await.good();
        assert_eq!(said["instance"], *self.instance);
        said["state"].clone()
    }
}

/// All that a dispatcher lists: host, queues, state, leases.
async fn listed(node: &Node) -> Value {
    let list = node.get("/v1/workers").await.good();
    let workers = list["workers"].as_array().unwrap();
    workers.iter().map(|w| json!([w["worker"]["host"], w["queues"], w["state"], w["leased"]])).collect()
}

#[tokio::test]
async fn a_worker_is_listed_with_what_it_said_and_holds() {
    let mut world = World::new(&["mail", "sms"]).await;
    let node = world.node(&["mail", "sms"]).await;
    assert_eq!(listed(&node).await, json!([]));
    world.produce("mail", "send", 3).await;
    let (one, two) = (Worker::new("web-1", &["mail"]), Worker::new("web-0", &["sms", "mail"]));
    let before = world.clock().await;
    let jobs = [one.job(&node).await, two.job(&node).await, one.job(&node).await];
    let expected = json!([["web-0", ["sms", "mail"], "run", 1], ["web-1", ["mail"], "run", 2]]);
    assert_eq!(listed(&node).await, expected);

    let list = node.get("/v1/workers").await.good();
    let record = &list["workers"][1];
    assert_eq!(record["worker"], one.body["worker"]);
    let times: Vec<jiff::Timestamp> =
        ["first_seen_at", "seen_at"].map(|name| record[name].as_str().unwrap().parse().unwrap()).into();
    let between = world.clock().await;
    assert!(before <= times[0] && times[0] < times[1] && times[1] <= between, "{times:?}");
    one.beat(&node).await;
    let list = node.get("/v1/workers").await.good();
    let seen: jiff::Timestamp = list["workers"][1]["seen_at"].as_str().unwrap().parse().unwrap();
    assert!(between <= seen, "a heartbeat is heard");

    assert_eq!(node.result(&jobs[0], "complete").await, "ok");
    assert_eq!(listed(&node).await[1][3], 1);
}

#[tokio::test]
async fn a_quiet_worker_finishes_but_gets_nothing_until_it_is_resumed() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    world.produce("mail", "send", 5).await;
    let (worker, other) = (Worker::new("web-1", &["mail"]), Worker::new("web-2", &["mail"]));
    let job = worker.job(&node).await;
    for verb in ["quiet", "terminate", "quiet"] {
        assert_eq!(worker.order(&node, verb).await, verb);
        let said = worker.grab(&node).await;
        assert_eq!((&said["jobs"], &said["state"]), (&json!([]), &json!(verb)));
        assert_eq!(worker.beat(&node).await, verb);
        assert_eq!(listed(&node).await[0][2], verb);
    }
    let with_result = |lease: &Value| {
        let mut body = worker.body.clone();
        body["results"] = json!([{"lease": lease, "outcome": "complete"}]);
        body
    };
    let said = node.post("/v1/grab", with_result(&job["lease"])).await.good();
    assert_eq!((&said["jobs"], &said["state"]), (&json!([]), &json!("quiet")));
    assert_eq!(said["results"][0]["answer"], "ok");
    other.job(&node).await;

    assert_eq!(worker.order(&node, "resume").await, "run");
    worker.job(&node).await;
    assert_eq!(world.count("select count(*) from tidemill.steering").await, 0);
}

#[tokio::test]
async fn an_answer_that_was_lost_is_repeated_to_a_quiet_worker_too() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    world.produce("mail", "send", 2).await;
    let mut worker = Worker::new("web-1", &["mail"]);
    worker.body["request"] = json!("1");
    let job = worker.job(&node).await;
    worker.order(&node, "quiet").await;
    let said = worker.grab(&node).await;
    assert_eq!((&said["jobs"][0]["lease"], &said["state"]), (&job["lease"], &json!("quiet")));
    worker.body["request"] = json!("2");
    assert_eq!(worker.grab(&node).await["jobs"], json!([]));
}

#[tokio::test]
async fn a_worker_that_waits_is_told_at_once_and_later_ones_not_in_a_storm() {
    let mut world = World::new(&["mail"]).await;
    let node = world.node(&["mail"]).await;
    let mut worker = Worker::new("web-1", &["mail"]);
    worker.beat(&node).await;
    worker.body["wait_ms"] = json!(30_000);
    let mut waiting = std::pin::pin!(worker.grab(&node));
    assert!(waiting.as_mut().now_or_never().is_none());
    until("it waits with its queue's name", async || {
        tokio::select! {
            said = &mut waiting => panic!("{said}"),
            listed = listed(&node) => (listed[0][1] == json!(["mail"])).then_some(()),
        }
    })
    .await;
    let started = tokio::time::Instant::now();
    worker.order(&node, "terminate").await;
    let said = waiting.await;
    assert_eq!((&said["jobs"], &said["state"]), (&json!([]), &json!("terminate")));
    assert!(started.elapsed() < Duration::from_secs(10));

    // It does not heed it, and asks again.
    let started = tokio::time::Instant::now();
    assert_eq!(worker.grab(&node).await["state"], "terminate");
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn all_dispatchers_know_together_and_tell_the_same() {
    let mut world = World::new(&["a", "b"]).await;
    let mut one = world.node(&["a"]).await;
    let two = world.node(&["b"]).await;
    one.look(&mut world).await;
    // Of each queue a job, by way of the first; and one who only talks to the second.
    let (both, second) = (Worker::new("both", &["a", "b"]), Worker::new("second", &["b"]));
    world.produce("a", "send", 1).await;
    both.job(&one).await;
    world.produce("b", "send", 2).await;
    both.job(&one).await;
    second.job(&two).await;
    let expected = json!([["both", ["a", "b"], "run", 2], ["second", ["b"], "run", 1]]);
    assert_eq!((listed(&one).await, listed(&two).await), (expected.clone(), expected));

    // Asked where it is not known, told everywhere.
    assert_eq!(second.order(&one, "quiet").await, "quiet");
    for node in [&one, &two] {
        assert_eq!(second.grab(node).await["state"], "quiet");
        assert_eq!(second.beat(node).await, "quiet");
    }
    assert_eq!(second.order(&two, "terminate").await, "terminate");
    assert_eq!(second.beat(&one).await, "terminate");
    assert_eq!(second.order(&one, "resume").await, "run");
    assert_eq!((second.beat(&one).await, second.beat(&two).await), (json!("run"), json!("run")));
    assert_eq!(second.order(&two, "quiet").await, "quiet");
    let nobody = Worker::new("nobody", &["b"]);
    let path = format!("/v1/workers/{}/quiet", nobody.instance);
    let detail = one.post(&path, json!({})).await.problem(404, "unknown-worker");
    assert!(detail.contains(&nobody.instance), "{detail}");

    // A dispatcher that was not there then has heard nothing of them, but of their orders and leases.
    drop((one, two));
    let owned = "select count(*) from tidemill.owner where until > clock_timestamp()";
    until("both have left", async || (world.count(owned).await == 0).then_some(())).await;
    let three = world.node(&["a", "b"]).await;
    let expected = json!([["both", ["a", "b"], "run", 2], ["second", ["b"], "quiet", 1]]);
    until("the log is read", async || (listed(&three).await == expected).then_some(())).await;
    assert_eq!(three.get("/v1/workers").await.good()["workers"][0]["seen_at"], Value::Null);
    assert_eq!(second.grab(&three).await["state"], "quiet");
    assert_eq!(both.order(&three, "terminate").await, "terminate");
}

#[tokio::test]
async fn leases_in_the_waiting_room_are_counted_once_and_their_holders_known() {
    let mut world = World::new(&["a", "b"]).await;
    let mut one = world.node(&["a"]).await;
    let two = world.node(&["b"]).await;
    one.look(&mut world).await;
    let mut worker = Worker::new("web-1", &["a", "b"]);
    world.produce("a", "send", 2).await;
    worker.job(&one).await;
    worker.body["transactional"] = json!(true);
    let there = worker.job(&two).await;
    world.produce("b", "send", 2).await;
    worker.job(&one).await;
    worker.job(&one).await;
    let expected = json!([["web-1", ["a", "b"], "run", 4]]);
    assert_eq!((listed(&one).await, listed(&two).await), (expected.clone(), expected));
    // Its own transaction is not told to anybody.
    world.run(&format!("select tidemill.complete_job('{}')", there["lease"].as_str().unwrap())).await;
    assert_eq!(listed(&one).await[0][3], 3);

    // Known by nothing else, in nobody's queue.
    drop((one, two));
    let owned = "select count(*) from tidemill.owner where until > clock_timestamp()";
    until("both have left", async || (world.count(owned).await == 0).then_some(())).await;
    world.run("delete from tidemill.waiting where queue_id = 1").await;
    let three = world.node(&[]).await;
    assert_eq!(listed(&three).await, json!([["web-1", ["b"], "run", 2]]));
    let worker_seen = three.get("/v1/workers").await.good()["workers"][0]["worker"].clone();
    let expected = json!({"instance": worker.instance, "host": "web-1", "pid": 7});
    assert_eq!(worker_seen, expected);
    assert_eq!(worker.order(&three, "quiet").await, "quiet");
    assert_eq!(listed(&three).await[0][2], "quiet");
}

#[tokio::test]
async fn a_dispatcher_that_is_away_does_not_spoil_the_list_but_an_order_says_so() {
    let mut world = World::new(&["a", "b"]).await;
    let mut one = world.node(&["a"]).await;
    let mut two = world.node(&["b"]).await;
    one.look(&mut world).await;
    let (first, second) = (Worker::new("first", &["a"]), Worker::new("second", &["b"]));
    first.grab(&one).await;
    second.grab(&two).await;
    // Its API is gone; its ownership is not.
    two.shutdown.begin();
    two.serving.take().unwrap().await.unwrap().unwrap();
    assert_eq!(listed(&one).await, json!([["first", ["a"], "run", 0]]));
    let path = format!("/v1/workers/{}/quiet", second.instance);
    one.post(&path, json!({})).await.problem(503, "unavailable");
    assert_eq!(first.order(&one, "quiet").await, "quiet");
}

#[tokio::test]
async fn a_token_sees_and_steers_the_workers_of_its_queues() {
    let mut world = World::new(&["mail", "other"]).await;
    let file =
        std::env::temp_dir().join(format!("tidemill-workers-{}-{}", std::process::id(), world.db.name()));
    let hash = |text: &str| Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let lines = [("root", "work,read,admin", ""), ("mailer", "read,admin", " ma*"), ("eye", "read", "")];
    let lines = lines.map(|(name, scopes, queues)| format!("{name} {} {scopes}{queues}\n", hash(name)));
    std::fs::write(&file, lines.concat()).unwrap();
    let tokens = Tokens::load(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let mut node = world.node_with(&["mail", "other"], Limits::default(), Some(tokens)).await;
    world.produce("mail", "send", 1).await;
    world.produce("other", "send", 1).await;
    node.token = Some("root");
    let workers = [
        Worker::new("mail", &["mail"]),
        Worker::new("both", &["other", "mail"]),
        Worker::new("other", &["other"]),
        Worker::new("beats", &[]),
    ];
    let [mail, both, other, beats] = &workers;
    both.job(&node).await;
    both.job(&node).await;
    mail.grab(&node).await;
    other.grab(&node).await;
    beats.beat(&node).await;
    let all = json!([
        [null, [], "run", 0],
        ["both", ["other", "mail"], "run", 2],
        ["mail", ["mail"], "run", 0],
        ["other", ["other"], "run", 0]
    ]);
    let own = json!([["both", ["mail"], "run", 1], ["mail", ["mail"], "run", 0]]);
    for (token, seen) in [("root", &all), ("eye", &all), ("mailer", &own)] {
        node.token = Some(token);
        assert_eq!(listed(&node).await, *seen, "{token}");
    }
    for (token, allowed) in
        [("eye", [false; 4]), ("mailer", [true, false, false, false]), ("root", [true; 4])]
    {
        node.token = Some(token);
        for (worker, allowed) in workers.iter().zip(allowed) {
            let said = node.post(&format!("/v1/workers/{}/quiet", worker.instance), json!({})).await;
            if allowed {
                assert_eq!(said.good()["state"], "quiet");
            } else {
                said.problem(403, "forbidden");
            }
        }
    }
}
