//! Drain: lease every job and complete it; in this process and over HTTP with results and next grab in one request, and
//! by a worker of the SDK.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tidemill_common::api::{Answer, Outcome};
use tidemill_common::db::Session;
use tidemill_common::queue::dispatch;
use tidemill_common::service::{Shutdown, Wake};
use tidemill_common::testing::Service;
use tidemill_dispatcher::command::QueueHandle;
use tidemill_dispatcher::engine::record::Holder;
use tidemill_dispatcher::engine::{Answered, Grab, Limits};
use tidemill_dispatcher::metrics::DispatchMetrics;
use tidemill_dispatcher::routes::Seen;
use tidemill_dispatcher::serve::{Identity, QueueServer};
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use crate::connection::Connection;
use crate::measure::{Cost, Meter};
use crate::rig::{QUEUE, Rig};
use crate::{baseline, compare, graphile, sdk};

/// Requests under way at a time: enough that groups form, as with as many workers.
const CLIENTS: usize = 32;

/// Where the drain's requests go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    InProcess,
    Http,
    /// One-job handlers of the SDK, with its default prefetch and batching.
    Sdk,
}

pub(crate) async fn run(way: Way, batches: &[usize], jobs: u64, rounds: usize) -> Result<()> {
    let mut rig = Rig::new().await?;
    for batch in if way == Way::Sdk { &[1] } else { batches }.iter().copied() {
        let (mut ours, mut table, mut library) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            rig.fill_queue(jobs).await?;
            ours.push(match way {
                Way::InProcess => in_process(&mut rig, jobs, batch).await?,
                Way::Http => http(&mut rig, jobs, batch).await?,
                Way::Sdk => sdk::drain(&mut rig, jobs).await?,
            });
            table.push(baseline::drain(&mut rig, jobs).await?);
            library.push(graphile::drain(&mut rig, jobs).await?);
        }
        let name = match way {
            Way::InProcess => format!("drain in process, {batch} a request"),
            Way::Http => format!("drain over HTTP, {batch} a request"),
            Way::Sdk => "drain by the SDK, one-job handlers".to_owned(),
        };
        let (table, library) = (Cost::sum(&table), Cost::sum(&library));
        compare(
            &name,
            &Cost::sum(&ours),
            &[("SKIP LOCKED table, 2 x 1000", &table), ("graphile_worker", &library)],
        );
    }
    Ok(())
}

/// WAL of whole jobs: copied in, ticked, leased and completed a hundred a request.
pub(crate) async fn whole(jobs: u64) -> Result<()> {
    let mut rig = Rig::new().await?;
    let meter = Meter::start(rig.cluster, &mut rig.session, &[std::process::id()]).await?;
    rig.copy_queue(jobs).await?;
    let copied = meter.stop(&mut rig.session, jobs).await?;
    let drained = in_process(&mut rig, jobs, 100).await?;
    compare("COPY in, 1000 a transaction", &copied, &[]);
    compare("then tick, lease and complete", &drained, &[]);
    Ok(())
}

/// A server in this process, and clients that call it without a network.
async fn in_process(rig: &mut Rig, jobs: u64, batch: usize) -> Result<Cost> {
    let queue = dispatch::queues(&mut rig.session)
        .await?
        .into_iter()
        .find(|q| q.name == QUEUE)
        .context("no queue")?;
    let (seen_by, seen) = watch::channel(Seen { queue, at: Instant::now() });
    let (owned_by, mut owned) = watch::channel(false);
    let (handle, commands) = QueueHandle::channel(4096);
    let (stop, target) = (Shutdown::new(), rig.db.target());
    let server = QueueServer {
        identity: Identity {
            instance: Uuid::new_v4(),
            address: String::new(),
            term_ms: 5_000,
            read_rows: 12_500,
            limits: Limits {
                window_jobs: 50_000,
                window_bytes: 64 << 20,
                finished: 200_000,
                flush_units: 2_000,
                hold_ms: 30_000,
                ask_ms: 10_000,
            },
        },
        seen,
        owned: owned_by,
        commands,
        ticked: Wake::new(),
        connect: Box::new(move || Session::new(Arc::clone(&target), "tidemill-dispatcher")),
        metrics: DispatchMetrics::new(&prometheus::Registry::new())?.of(QUEUE),
        stop: stop.clone(),
    };
    #[expect(clippy::disallowed_methods, reason = "the benchmark is the process")]
    let server = tokio::spawn(server.run());
    owned.wait_for(|owned| *owned).await?;

    let meter = Meter::start(rig.cluster, &mut rig.session, &[std::process::id()]).await?;
    // Only now is there anything to read: reading the log is part of the cost.
    rig.tick().await?;
    let done = Arc::new(AtomicU64::new(0));
    let clients = (0..CLIENTS).map(|_| {
        let (handle, done) = (handle.clone(), Arc::clone(&done));
        #[expect(clippy::disallowed_methods, reason = "clients of their own, as workers are")]
        let client = tokio::spawn(async move { in_process_client(&handle, &done, jobs, batch).await });
        async move { client.await? }
    });
    try_join_all(clients).await?;
    let cost = meter.stop(&mut rig.session, done.load(Ordering::Relaxed)).await?;
    ensure!(cost.jobs == jobs, "completed {} of {jobs}", cost.jobs);
    stop.begin();
    server.await?;
    drop(seen_by);
    Ok(cost)
}

async fn in_process_client(handle: &QueueHandle, done: &AtomicU64, jobs: u64, batch: usize) -> Result<()> {
    let holder = Arc::new(Holder { instance: Uuid::new_v4(), host: "bench".to_owned(), pid: 1 });
    let mut results = Vec::new();
    while done.load(Ordering::Relaxed) < jobs {
        let grab = Grab {
            types: None,
            max: batch,
            lease_ms: None,
            wait_ms: 200,
            transactional: false,
            number: None,
            filter: None,
            holder: Arc::clone(&holder),
        };
        let Answered::Grab { jobs: granted, results: answers } =
            handle.grab(grab, std::mem::take(&mut results)).await?
        else {
            anyhow::bail!("not the answer to a grab");
        };
        let ok = answers.iter().filter(|answer| **answer == Answer::Ok).count();
        ensure!(ok == answers.len(), "a result was not accepted: {answers:?}");
        done.fetch_add(ok as u64, Ordering::Relaxed);
        results =
            granted.into_iter().map(|job| (Some(job.lease), Outcome::Complete { result: None })).collect();
    }
    Ok(())
}

/// The real binary, once it owns the queue.
pub(crate) async fn dispatcher(rig: &Rig, client: &reqwest::Client) -> Result<Service> {
    let toml = format!("[database]\nname = \"bench\"\nurl = \"{}\"\n", rig.db.url());
    let service = Service::start(
        "tidemill-dispatcher",
        &toml,
        &[("RUST_LOG", "warn,tidemill_common=info,tidemill_dispatcher=info")],
    )
    .await?;
    wait_until_owned(client, &format!("http://{}/v1/grab", service.http_address())).await?;
    Ok(service)
}

/// The real binary, and clients over loopback.
async fn http(rig: &mut Rig, jobs: u64, batch: usize) -> Result<Cost> {
    let service = dispatcher(rig, &reqwest::Client::new()).await?;
    let address = service.http_address().to_string();
    let pid = u32::try_from(service.pid())?;
    let meter = Meter::start(rig.cluster, &mut rig.session, &[std::process::id(), pid]).await?;
    // Only now is there anything to read: reading the log is part of the cost.
    rig.tick().await?;
    let done = Arc::new(AtomicU64::new(0));
    let clients = (0..CLIENTS).map(|_| {
        let (address, done) = (address.clone(), Arc::clone(&done));
        #[expect(clippy::disallowed_methods, reason = "clients of their own, as workers are")]
        let client = tokio::spawn(async move { http_client(&address, &done, jobs, batch).await });
        async move { client.await? }
    });
    try_join_all(clients).await?;
    let cost = meter.stop(&mut rig.session, done.load(Ordering::Relaxed)).await?;
    ensure!(cost.jobs == jobs, "completed {} of {jobs}", cost.jobs);
    service.sigterm();
    Ok(cost)
}

/// A grab for a type that does not exist is answered once the queue is owned.
async fn wait_until_owned(client: &reqwest::Client, url: &str) -> Result<()> {
    let request = json!({"queues": [QUEUE], "types": ["none"], "max": 1, "wait_ms": 0,
                         "worker": {"instance": Uuid::new_v4()}});
    tidemill_common::testing::wait_for(
        "the queue is owned",
        std::time::Duration::from_secs(20),
        async || {
            client.post(url).json(&request).send().await.ok().filter(|answer| answer.status().is_success())
        },
    )
    .await;
    Ok(())
}

/// Reads of an answer what a worker needs of it, and copies nothing.
#[derive(Deserialize)]
struct Got<'a> {
    #[serde(borrow)]
    jobs: Vec<GotJob<'a>>,
    #[serde(borrow)]
    results: Vec<GotAnswer<'a>>,
}

#[derive(Deserialize)]
struct GotJob<'a> {
    lease: &'a str,
    #[serde(rename = "args", borrow)]
    _args: &'a RawValue,
}

#[derive(Deserialize)]
struct GotAnswer<'a> {
    answer: &'a str,
}

async fn http_client(address: &str, done: &AtomicU64, jobs: u64, batch: usize) -> Result<()> {
    let mut dispatcher = Connection::open(address).await?;
    let (instance, mut results) = (Uuid::new_v4(), String::new());
    while done.load(Ordering::Relaxed) < jobs {
        let body = format!(
            "{{\"queues\":[\"{QUEUE}\"],\"max\":{batch},\"wait_ms\":200,\"worker\":{{\"instance\":\"{instance}\",\
             \"host\":\"bench\",\"pid\":1}},\"results\":[{results}]}}"
        );
        let answer = dispatcher.post("/v1/grab", body).await?;
        let Got { jobs: granted, results: answers } = serde_json::from_str(std::str::from_utf8(&answer)?)?;
        let refused = answers.iter().find(|result| result.answer != "ok");
        ensure!(refused.is_none(), "a result was not accepted: {}", refused.map_or("", |r| r.answer));
        done.fetch_add(answers.len() as u64, Ordering::Relaxed);
        results.clear();
        for job in granted {
            let comma = if results.is_empty() { "" } else { "," };
            write!(results, "{comma}{{\"lease\":\"{}\",\"outcome\":\"complete\"}}", job.lease)?;
        }
    }
    Ok(())
}
