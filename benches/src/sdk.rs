//! Drain by a worker of the SDK: handlers of one job each, its default prefetch and batching, over HTTP.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use tidemill_worker::{Failure, Job, JobKind, Worker};
use tokio::sync::Notify;

use crate::drain;
use crate::measure::{Cost, Meter};
use crate::rig::{QUEUE, Rig};

#[derive(Serialize, Deserialize)]
struct SendEmail {
    to: String,
    subject: String,
}

impl JobKind for SendEmail {
    const TYPE: &'static str = "send_email";
}

/// Drains the queue, until the last result is answered.
pub(crate) async fn drain(rig: &mut Rig, jobs: u64) -> Result<Cost> {
    let service = drain::dispatcher(rig, &reqwest::Client::new()).await?;
    let (handled, all) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    let done = Arc::clone(&all);
    let worker = Worker::builder(format!("http://{}", service.http_address()))
        .queue(QUEUE)
        .register::<SendEmail, _, _, _>(move |_job: Job<SendEmail>| {
            if handled.fetch_add(1, Ordering::Relaxed) + 1 == jobs {
                done.notify_one();
            }
            async { Ok::<(), Failure>(()) }
        })
        .build()?;
    let processes = [std::process::id(), u32::try_from(service.pid())?];
    let meter = Meter::start(rig.cluster, &mut rig.session, &processes).await?;
    rig.tick().await?;
    let summary = worker.run(async move { all.notified().await }).await?;
    let cost = meter.stop(&mut rig.session, jobs).await?;
    ensure!(summary.succeeded == jobs, "completed {} of {jobs}", summary.succeeded);
    service.sigterm();
    Ok(cost)
}
