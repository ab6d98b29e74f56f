//! Crash the dispatcher between any two durable steps: every job is completed, and its completion recorded, once.

#![expect(clippy::unwrap_used, reason = "a failure here is the test's")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use tidemill_common::db::{Session, Type};
use tidemill_common::testing::{Cluster, Service, TestDb, wait_for};
use tidemill_dispatcher::engine::record::{Record, Resolution, decode};
use uuid::Uuid;

const JOBS: usize = 60;
/// A lease whose answer was lost ends soon, so that the test does not wait for it.
const LEASE_MS: u64 = 1_000;

#[tokio::test]
async fn before_the_queue_is_taken_over() {
    every_job_is_completed_once("dispatcher.before_take", [0, 0, 0]).await;
}

#[tokio::test]
async fn after_the_queue_is_taken_over() {
    every_job_is_completed_once("dispatcher.after_take", [0, 0, 0]).await;
}

#[tokio::test]
async fn before_a_flush_is_sent() {
    every_job_is_completed_once("dispatcher.before_flush", [2, 3, 5]).await;
}

#[tokio::test]
async fn after_a_flush_is_committed_and_before_its_answers_leave() {
    every_job_is_completed_once("dispatcher.after_flush", [2, 3, 5]).await;
}

#[tokio::test]
async fn before_the_mark_moves() {
    every_job_is_completed_once("dispatcher.before_renew", [1, 0, 3]).await;
}

#[tokio::test]
async fn after_the_mark_moved() {
    every_job_is_completed_once("dispatcher.after_renew", [1, 0, 3]).await;
}

/// For each number a dispatcher dies at the point, after passing it so often; then one lives. A worker goes on all the
/// while.
async fn every_job_is_completed_once(point: &str, deaths: [usize; 3]) {
    let db = Cluster::shared().database().await;
    let mut session = db.session("test");
    session.query("create queue", "select tidemill.create_job_queue('mail')", &[]).await.unwrap();
    produce(&mut session, JOBS).await;

    let mut worker = Worker::new();
    for passes in deaths {
        let failpoints =
            if passes == 0 { format!("{point}=return") } else { format!("{point}={passes}*off->return") };
        let mut dispatcher = start(&db, &[("FAILPOINTS", failpoints.as_str())]);
        wait_for("the dispatcher died at the point", Duration::from_secs(30), async || {
            worker.turn(&dispatcher).await;
            // Something is always there to grab, so that every kind of flush goes on.
            produce(&mut session, 1).await;
            (!dispatcher.is_running()).then_some(())
        })
        .await;
        assert!(!dispatcher.wait_exit(Duration::from_secs(5)).await.success());
    }
    let dispatcher = start(&db, &[]);
    let inserted = wait_for("every job is completed", Duration::from_secs(60), async || {
        worker.turn(&dispatcher).await;
        let ids = ids(&mut session).await;
        (worker.completed.len() == ids.len()).then_some(ids)
    })
    .await;
    assert_eq!(worker.completed.keys().copied().collect::<BTreeSet<_>>(), inserted);

    let recorded = completions(&mut session).await;
    assert_eq!(recorded.keys().copied().collect::<BTreeSet<_>>(), inserted);
    let twice: Vec<_> = recorded.iter().filter(|(_, leases)| leases.len() != 1).collect();
    assert!(twice.is_empty(), "recorded more than once: {twice:?}");
    for (job, leases) in &recorded {
        assert_eq!(
            leases[0], worker.completed[job],
            "job {job} was completed under another lease than answered"
        );
    }
}

fn start(db: &TestDb, environment: &[(&str, &str)]) -> Service {
    let toml = format!("[database]\nname = \"jobs\"\nurl = \"{}\"\n[dispatcher]\nterm_ms = 500\n", db.url());
    Service::spawn("tidemill-dispatcher", &toml, environment).unwrap()
}

async fn produce(session: &mut Session, count: usize) {
    let count = i32::try_from(count).unwrap();
    let sql = "select count(*) from tidemill.insert_jobs('mail', (select jsonb_agg('{\"type\": \"send\"}'::jsonb) \
               from generate_series(1, $1)))";
    session.query("produce", sql, &[(&count, Type::INT4)]).await.unwrap();
    session.query("tick", "select * from tidemill.tick_pass()", &[]).await.unwrap();
}

async fn ids(session: &mut Session) -> BTreeSet<i64> {
    let rows = session.query("list jobs", "select ev_id from pgq.event_1", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Which leases the journal says a job was completed under.
async fn completions(session: &mut Session) -> BTreeMap<i64, Vec<(i64, i64)>> {
    let rows = session.query("read journal", "select j_data from tidemill.journal_1_0", &[]).await.unwrap();
    let mut completions: BTreeMap<i64, Vec<(i64, i64)>> = BTreeMap::new();
    for record in rows.iter().flat_map(|row| decode(row.get(0)).unwrap()) {
        if let Record::Resolved { how: Resolution::Completed, entries } = record {
            for (entry, lease) in entries {
                completions.entry(entry.job).or_default().push((lease.epoch, lease.number));
            }
        }
    }
    completions
}

/// A worker that repeats what it got no answer to, as the contract asks.
struct Worker {
    client: reqwest::Client,
    instance: Uuid,
    /// Results not answered yet.
    open: Vec<String>,
    /// Job and lease (epoch, number) of every result that was accepted.
    completed: BTreeMap<i64, (i64, i64)>,
}

impl Worker {
    fn new() -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().unwrap();
        Self { client, instance: Uuid::new_v4(), open: Vec::new(), completed: BTreeMap::new() }
    }

    /// One request, if the dispatcher listens already.
    async fn turn(&mut self, dispatcher: &Service) {
        let listening = |event: &Value| event["message"] == "http server listening";
        let Some(event) = dispatcher.events().into_iter().find(listening) else { return };
        let url = format!("http://{}/v1/grab", event["address"].as_str().unwrap());
        let results: Vec<Value> =
            self.open.iter().map(|lease| json!({"lease": lease, "outcome": "complete"})).collect();
        let request = json!({"queues": ["mail"], "max": 7, "wait_ms": 50, "lease_ms": LEASE_MS, "results": results,
                             "worker": {"instance": self.instance}});
        let Ok(answer) = self.client.post(url).json(&request).send().await else { return };
        if !answer.status().is_success() {
            return; // no owner yet: ask again
        }
        let Ok(answer) = answer.json::<Value>().await else { return };
        for result in answer["results"].as_array().unwrap() {
            let lease = result["lease"].as_str().unwrap();
            match result["answer"].as_str().unwrap() {
                "ok" | "already" => {
                    self.open.retain(|open| open != lease);
                    let token: tidemill_common::lease::Lease = lease.parse().unwrap();
                    let before = self.completed.insert(token.job, (token.epoch, token.number));
                    assert_eq!(before, None, "job {} was accepted twice", token.job);
                }
                "stale" => self.open.retain(|open| open != lease),
                "unavailable" => {}
                other => panic!("unexpected answer {other}"),
            }
        }
        let jobs = answer["jobs"].as_array().unwrap();
        self.open.extend(jobs.iter().map(|job| job["lease"].as_str().unwrap().to_owned()));
    }
}
