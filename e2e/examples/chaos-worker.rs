//! The worker of the chaos test: writes down every lease it works under and every answer it hears, so that the test can
//! compare both with the journal. What it does with a job is decided by the job alone.
//!
//! ```text
//! chaos-worker QUEUE DATABASE-URL DISPATCHER-URL…
//! ```

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tidemill_common::{
    db::{Session, Target, TargetOptions, Type},
    lease::Lease,
};
use tokio::time::{Interval, interval};
use uuid::Uuid;

/// Leases end soon, so that the test does not wait for those of a worker that was killed.
const LEASE_MS: u64 = 1_500;
/// Between two requests, also failed ones.
const PACE: Duration = Duration::from_millis(20);

const KEEP_EFFECTS: &str = "
    insert into public.effect (job, attempt, epoch, number, worker)
    select job, attempt, epoch, number, worker
      from jsonb_to_recordset($1::text::jsonb) as e (job int8, attempt int4, epoch int8, number int8, worker uuid)
    on conflict do nothing";
const KEEP_ANSWERS: &str = "
    insert into public.answer (job, epoch, number, outcome, answer)
    select job, epoch, number, outcome, answer
      from jsonb_to_recordset($1::text::jsonb) as a (job int8, epoch int8, number int8, outcome text, answer text)";

struct Worker {
    http: reqwest::Client,
    queue: String,
    dispatchers: Vec<String>,
    /// The dispatcher that answered last.
    current: usize,
    instance: Uuid,
    books: Session,
    pace: Interval,
    /// Results without an answer: they are sent again.
    open: Vec<(Lease, &'static str)>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let queue = arguments.next().context("the queue")?;
    let url = arguments.next().context("the database's URL")?;
    let target = Target::parse("books", &url, &TargetOptions::default())?;
    rustls::crypto::ring::default_provider().install_default().ok();
    let mut worker = Worker {
        http: reqwest::Client::builder().timeout(Duration::from_secs(3)).build()?,
        queue,
        dispatchers: arguments.collect(),
        current: 0,
        instance: Uuid::new_v4(),
        books: Session::new(Arc::new(target), "chaos-worker"),
        pace: interval(PACE),
        open: Vec::new(),
    };
    loop {
        worker.pace.tick().await;
        if let Err(error) = worker.turn().await {
            eprintln!("{error:#}");
            worker.current = (worker.current + 1) % worker.dispatchers.len();
        }
    }
}

impl Worker {
    /// Sends what is open, takes jobs, and writes both down.
    async fn turn(&mut self) -> Result<()> {
        let results: Vec<Value> = self.open.iter().map(result).collect();
        let request = json!({"queues": [self.queue], "max": 7, "wait_ms": 200, "lease_ms": LEASE_MS, "results": results,
                             "worker": {"instance": self.instance, "host": "chaos", "pid": std::process::id()}});
        let url = format!("{}/v1/grab", self.dispatchers[self.current]);
        let answer = self.http.post(url).json(&request).send().await?;
        let (status, answer): (_, Value) = (answer.status(), answer.json().await?);
        ensure!(status.is_success(), "{status}: {answer}");
        self.heard(answer["results"].as_array().map_or(&[], Vec::as_slice)).await?;
        self.work(answer["jobs"].as_array().map_or(&[], Vec::as_slice)).await
    }

    async fn heard(&mut self, answers: &[Value]) -> Result<()> {
        let mut rows = Vec::new();
        for item in answers {
            let lease: Lease = item["lease"].as_str().context("a lease")?.parse()?;
            let answer = item["answer"].as_str().context("an answer")?;
            if answer == "unavailable" {
                continue;
            }
            let place = self.open.iter().position(|(open, _)| *open == lease).context("an open result")?;
            let (_, outcome) = self.open.swap_remove(place);
            rows.push(json!({"job": lease.job, "epoch": lease.epoch, "number": lease.number,
                             "outcome": outcome, "answer": answer}));
        }
        self.keep(KEEP_ANSWERS, rows).await;
        Ok(())
    }

    async fn work(&mut self, jobs: &[Value]) -> Result<()> {
        let mut rows = Vec::new();
        let mut done = Vec::new();
        for job in jobs {
            let lease: Lease = job["lease"].as_str().context("a lease")?.parse()?;
            rows.push(json!({"job": lease.job, "attempt": lease.attempt, "epoch": lease.epoch,
                             "number": lease.number, "worker": self.instance}));
            done.extend(decide(&lease).map(|outcome| (lease, outcome)));
        }
        self.keep(KEEP_EFFECTS, rows).await;
        self.open.extend(done);
        Ok(())
    }

    /// Writes rows down, however long the database is away: then their leases end, which the answers will say.
    async fn keep(&mut self, sql: &str, rows: Vec<Value>) {
        if rows.is_empty() {
            return;
        }
        let rows = Value::Array(rows).to_string();
        while let Err(error) = self.books.execute("keep the books", sql, &[(&rows, Type::TEXT)]).await {
            eprintln!("{error}");
            self.books.close();
            self.pace.tick().await;
        }
    }
}

/// Most jobs are completed; some fail once, some always, some are given up, and of some the first lease is let go by.
fn decide(lease: &Lease) -> Option<&'static str> {
    match (lease.job % 100, lease.attempt) {
        (7, _) => Some("perm_fail"),
        (13, _) | (20..28, 1) => Some("temp_fail"),
        (31..33, 1) => None,
        _ => Some("complete"),
    }
}

fn result((lease, outcome): &(Lease, &'static str)) -> Value {
    let lease = lease.to_string();
    match *outcome {
        "temp_fail" => json!({"lease": lease, "outcome": outcome, "retry_in_ms": 100, "message": "not now"}),
        "perm_fail" => json!({"lease": lease, "outcome": outcome, "message": "never"}),
        _ => json!({"lease": lease, "outcome": outcome}),
    }
}
