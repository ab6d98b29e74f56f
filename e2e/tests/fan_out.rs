//! The fan-out that TheSchwartz is used for: one event becomes a job for each listener, each of these one for each of
//! its subscriptions, and each of these a notification for each device, in another queue. The dispatcher that owns the
//! queues is killed on the way; every job exists exactly once all the same.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidemill_common::testing::{Cluster, wait_for};
use tidemill_e2e::{
    api::{Client, lease},
    jobs::{Jobs, QUEUE},
};

const NOTES: &str = "notes";
const LISTENERS: u64 = 20;
const SUBSCRIPTIONS: u64 = 50;
const DEVICES: u64 = 3;
const NOTIFICATIONS: usize = (LISTENERS * SUBSCRIPTIONS * DEVICES) as usize;

/// What the workers saw.
#[derive(Debug, Default)]
struct Seen {
    /// The ids under which each notification was completed.
    notified: Mutex<BTreeMap<String, Vec<String>>>,
    replaced: AtomicUsize,
}

impl Seen {
    fn notified(&self) -> usize {
        self.notified.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// The jobs that are to exist instead of this one; `None`: it is only done.
fn children(job: &Value) -> Option<Vec<Value>> {
    let args = &job["args"];
    let child = |kind: &str, count: u64, key: &str| {
        (0..count)
            .map(|n| {
                let mut args = args.clone();
                args[key] = json!(n);
                json!({"type": kind, "args": args})
            })
            .collect::<Vec<_>>()
    };
    match job["type"].as_str()? {
        "event" => Some(child("listener", LISTENERS, "listener")),
        "listener" => Some(child("subscription", SUBSCRIPTIONS, "subscription")),
        "subscription" => {
            let mut notes = child("notification", DEVICES, "device");
            notes.iter_mut().for_each(|note| note["queue"] = json!(NOTES));
            Some(notes)
        }
        _ => None,
    }
}

/// Works until all is done, at whichever dispatcher answers.
async fn work(dispatchers: [Client; 2], seen: &Seen) -> Result<()> {
    let mut turn = 0;
    while seen.notified() < NOTIFICATIONS {
        turn += 1;
        let client = &dispatchers[turn % dispatchers.len()];
        let queue = if turn % 3 == 0 { QUEUE } else { NOTES };
        // A dispatcher that is dead, or a queue that is about to change hands: the next one.
        let Ok(jobs) = client.grab(queue, 25, 10_000, 200).await else { continue };
        let results: Vec<Value> = jobs
            .iter()
            .map(|job| match children(job) {
                Some(jobs) => json!({"lease": lease(job), "outcome": "replace", "jobs": jobs}),
                None => json!({"lease": lease(job), "outcome": "complete"}),
            })
            .collect();
        if results.is_empty() {
            continue;
        }
        let answers = wait_for("an answer to results", Duration::from_secs(20), async || {
            turn += 1;
            let answers = dispatchers[turn % dispatchers.len()].results(results.clone()).await.ok()?;
            answers.iter().all(|answer| answer != "unavailable").then_some(answers)
        })
        .await;
        for (job, answer) in jobs.iter().zip(answers) {
            ensure!(["ok", "already", "stale"].contains(&&*answer), "{answer}: {job}");
            if answer == "stale" {
                continue;
            }
            if children(job).is_some() {
                seen.replaced.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let mut notified = seen.notified.lock().unwrap_or_else(PoisonError::into_inner);
            let id = job["id"].as_str().unwrap_or_default().to_owned();
            notified.entry(job["args"].to_string()).or_default().push(id);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_event_becomes_every_notification_exactly_once() -> Result<()> {
    let jobs = Jobs::start(Cluster::shared(), 2).await?;
    let mut session = jobs.session();
    session.batch("make the queue", &format!("select tidemill.create_job_queue('{NOTES}')")).await?;
    session.batch("the event", &format!("select tidemill.insert_job('{QUEUE}', 'event', '{{}}')")).await?;

    let (seen, first) = (Seen::default(), jobs.client(0));
    let worker = || work([first.clone(), first.at(jobs.api(1))], &seen);
    let kill = async {
        wait_for("a third of the subscriptions", Duration::from_secs(60), async || {
            (seen.replaced.load(Ordering::Relaxed) > (LISTENERS * SUBSCRIPTIONS / 3) as usize).then_some(())
        })
        .await;
        ensure!(seen.notified() < NOTIFICATIONS, "it is killed on the way");
        let (owner, epoch) = jobs.owner().await;
        jobs.dispatchers[owner].kill9();
        Ok(epoch)
    };
    let (one, two, three, epoch) = tokio::join!(worker(), worker(), worker(), kill);
    for worked in [one, two, three] {
        worked?;
    }
    ensure!(jobs.owner().await.1 > epoch?, "another one took over");
    let notified = seen.notified.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for (note, ids) in &notified {
        ensure!(ids.len() == 1, "{note} was done as {ids:?}");
    }
    // The log says the same: every job was inserted once.
    let mut counts = BTreeMap::new();
    for table in ["pgq.event_1", "pgq.event_2"] {
        let sql = format!(
            "select ev_type, count(*), count(distinct ev_data) from {table} where ev_retry is null group by 1"
        );
        for row in session.query("count jobs", &sql, &[]).await? {
            counts.insert(row.get::<_, String>(0), (row.get::<_, i64>(1), row.get::<_, i64>(2)));
        }
    }
    let expected = [
        ("event", 1),
        ("listener", LISTENERS),
        ("notification", NOTIFICATIONS as u64),
        ("subscription", LISTENERS * SUBSCRIPTIONS),
    ];
    let expected: BTreeMap<_, _> =
        expected.iter().map(|(kind, count)| ((*kind).to_owned(), (*count as i64, *count as i64))).collect();
    ensure!(counts == expected, "{counts:?}");
    Ok(())
}

/// The most memory the process had resident, in MiB.
fn peak_mib(pid: i32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    Ok(peak.trim().trim_end_matches("kB").trim().parse::<u64>()? / 1_024)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute or two: a million jobs"]
async fn one_job_becomes_a_million_in_bounded_memory() -> Result<()> {
    const JOBS: usize = 1_000_000;
    let jobs = Jobs::start(Cluster::shared(), 1).await?;
    let mut session = jobs.session();
    session.batch("the event", &format!("select tidemill.insert_job('{QUEUE}', 'event', '{{}}')")).await?;
    let client = jobs.client(0);
    let job = client.grab(QUEUE, 1, 600_000, 10_000).await?.remove(0);
    let before = std::time::Instant::now();
    let lines = "{\"type\":\"notify\",\"args\":{\"user\":123456}}\n".repeat(JOBS);
    let path = format!("/v1/leases/{}/replace", lease(&job));
    let (status, said) = client.post_text(&path, "application/x-ndjson", lines).await?;
    ensure!(
        status == 200 && said == json!({"answer": "ok", "inserted": JOBS.to_string()}),
        "{status}: {said}"
    );
    let peak = peak_mib(jobs.dispatchers[0].pid())?;
    println!("{JOBS} jobs in {:?}, the dispatcher had at most {peak} MiB resident", before.elapsed());
    ensure!(peak < 256, "{peak} MiB");
    let row = session.query_one("count", "select count(*) from pgq.event_1", &[]).await?;
    ensure!(row.get::<_, i64>(0) == JOBS as i64 + 1);
    Ok(())
}
