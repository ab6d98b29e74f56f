//! The worker of the chaos test: writes down every lease it works under and every answer it hears, so that the test can
//! compare both with the journal. What it does with a job is decided by the job alone; some are replaced by others, in a
//! stream, and some are completed in a transaction of its own, without a look at the time.
//!
//! ```text
//! chaos-worker QUEUE DATABASE-URL DISPATCHER-URL…
//! ```

use std::{convert::Infallible, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use futures_util::{StreamExt, stream};
use reqwest::{Body, StatusCode};
use serde_json::{Value, json};
use tidemill_common::{
    db::{DbError, Session, Target, TargetOptions, Type},
    lease::Lease,
};
use tokio::time::{Interval, interval};
use uuid::Uuid;

/// Leases end soon, so that the test does not wait for those of a worker that was killed.
const LEASE_MS: u64 = 1_500;
/// Between two requests, also failed ones.
const PACE: Duration = Duration::from_millis(20);
/// So many of these are longer than a lease.
const TOO_LONG: usize = 90;

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
    grabs: u64,
    instance: Uuid,
    books: Session,
    pace: Interval,
    /// Results without an answer: they are sent again.
    open: Vec<(Lease, &'static str)>,
    /// Jobs whose replacement has no answer yet.
    replaced: Vec<Lease>,
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
        grabs: 0,
        instance: Uuid::new_v4(),
        books: Session::new(Arc::new(target), "chaos-worker"),
        pace: interval(PACE),
        open: Vec::new(),
        replaced: Vec::new(),
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
        while let Some(lease) = self.replaced.last().copied() {
            self.replace(lease).await?;
            self.replaced.pop();
        }
        let results: Vec<Value> = self.open.iter().map(result).collect();
        self.grabs += 1;
        let transactional = self.grabs.is_multiple_of(3);
        let request = json!({"queues": [self.queue], "max": 7, "transactional": transactional, "wait_ms": 200, "lease_ms": LEASE_MS, "results": results,
                             "worker": {"instance": self.instance, "host": "chaos", "pid": std::process::id()}});
        let url = format!("{}/v1/grab", self.dispatchers[self.current]);
        let answer = self.http.post(url).json(&request).send().await?;
        let (status, answer): (_, Value) = (answer.status(), answer.json().await?);
        ensure!(status.is_success(), "{status}: {answer}");
        self.heard(answer["results"].as_array().map_or(&[], Vec::as_slice)).await?;
        self.work(answer["jobs"].as_array().map_or(&[], Vec::as_slice)).await
    }

    /// Streams the jobs that are to exist instead of this one, until there is an answer.
    async fn replace(&mut self, lease: Lease) -> Result<()> {
        let url = format!("{}/v1/leases/{lease}/replace", self.dispatchers[self.current]);
        let mut lines = children(&lease);
        // Of some the rest comes when the lease has ended.
        let late = lines.split_off(if is_slow(&lease) { lines.len() / 2 } else { lines.len() });
        let mut pace = interval(PACE);
        let rest = stream::once(async move {
            for _ in 0..late.len().min(TOO_LONG) {
                pace.tick().await;
            }
            Ok(late)
        });
        let body = stream::once(async { Ok::<_, Infallible>(lines) }).chain(rest);
        let request = self.http.post(url).header("content-type", "application/x-ndjson");
        let request = request.body(Body::wrap_stream(body));
        let answer = request.send().await?;
        let status = answer.status();
        let answer: Value = answer.json().await?;
        let said = match status {
            StatusCode::OK => answer["answer"].as_str().context("an answer")?,
            StatusCode::CONFLICT => "stale",
            _ => bail!("{status}: {answer}"),
        };
        let row = json!({"job": lease.job, "epoch": lease.epoch, "number": lease.number,
                         "outcome": "replace", "answer": said});
        self.keep(KEEP_ANSWERS, vec![row]).await;
        Ok(())
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
            done.extend(decide(&lease, job["type"] == "child").map(|outcome| (lease, outcome)));
        }
        self.keep(KEEP_EFFECTS, rows).await;
        for (lease, outcome) in done {
            match outcome {
                "replace" => self.replaced.push(lease),
                "complete" if lease.transactional => self.complete(lease).await,
                _ => self.open.push((lease, outcome)),
            }
        }
        Ok(())
    }

    /// Completes a job together with its entry in the ledger, unless its lease has ended.
    async fn complete(&mut self, lease: Lease) {
        for _ in 0..if is_slow(&lease) { TOO_LONG } else { 0 } {
            self.pace.tick().await;
        }
        loop {
            match transact(&mut self.books, lease).await {
                Ok(()) => return,
                Err(error) if error.code().is_some_and(|code| code.code() == "TM002") => return,
                // It may be committed; then the lease is gone.
                Err(error) => eprintln!("{error}"),
            }
            self.books.close();
            self.pace.tick().await;
        }
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

async fn transact(session: &mut Session, lease: Lease) -> Result<(), DbError> {
    let mut tx = session.begin("complete a job").await?;
    let entry = "insert into public.ledger (job, epoch, number) values ($1, $2, $3)";
    let params =
        [(&lease.job as _, Type::INT8), (&lease.epoch as _, Type::INT8), (&lease.number as _, Type::INT8)];
    tx.execute("write the ledger", entry, &params).await?;
    let complete = format!("select tidemill.complete_job('{lease}')");
    tx.execute("complete", &complete, &[]).await?;
    tx.commit().await
}

/// Most jobs are completed; some fail once, some always, some are given up, of some the first lease is let go by, and
/// some are replaced.
fn decide(lease: &Lease, is_child: bool) -> Option<&'static str> {
    match (lease.job % 100, lease.attempt) {
        (7, _) => Some("perm_fail"),
        (13, _) | (20..28, 1) => Some("temp_fail"),
        (31..33, 1) => None,
        (40..46, _) if !is_child => Some("replace"),
        _ => Some("complete"),
    }
}

/// Is the job's first lease to end before the worker does?
fn is_slow(lease: &Lease) -> bool {
    (lease.job % 200 == 144 || lease.job % 100 == 50) && lease.attempt == 1
}

/// A few jobs, and sometimes more than are inserted at a time. One of them is ready; nobody is to work on the rest.
fn children(lease: &Lease) -> String {
    let count = if lease.job % 500 == 40 { 1_100 } else { 3 };
    let child = |n| {
        let later = if n == 0 { 0 } else { 86_400_000 };
        let args = json!({"parent": lease.job, "of": count});
        format!("{}\n", json!({"type": "child", "args": args, "delay_ms": later}))
    };
    (0..count).map(child).collect()
}

fn result((lease, outcome): &(Lease, &'static str)) -> Value {
    let lease = lease.to_string();
    match *outcome {
        "temp_fail" => json!({"lease": lease, "outcome": outcome, "retry_in_ms": 100, "message": "not now"}),
        "perm_fail" => json!({"lease": lease, "outcome": outcome, "message": "never"}),
        _ => json!({"lease": lease, "outcome": outcome}),
    }
}
