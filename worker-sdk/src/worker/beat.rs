//! The heartbeat: extends leases, hears of cancellations, and stops handlers whose lease cannot be trusted any more.
//!
//! It has a thread, a runtime and connections of its own, so that handlers that hog every core or block the program's
//! runtime do not starve it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rand::Rng;
use tidemill_common::api::{
    HeartbeatAnswer, HeartbeatItem, HeartbeatRequest, HeartbeatResponse, WorkerInfo, limit,
};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::leases::{Lease, Leases};
use super::steer::Steer;
use crate::backoff::Backoff;
use crate::client::{CallError, Client};
use crate::outcome::millis;

/// How often a lane that was told to be quiet asks whether it still is.
const QUIET_ASKS: Duration = Duration::from_secs(2);

/// What the heartbeat needs to know of a lane.
pub(crate) struct Pulse {
    pub(crate) worker: WorkerInfo,
    pub(crate) leases: Arc<Leases>,
    pub(crate) steer: Arc<Steer>,
}

/// Starts the heartbeat's thread; it ends with `stop`. The receiver ends when the thread does.
pub(crate) fn start(
    client: Client,
    lanes: Vec<Pulse>,
    stop: CancellationToken,
) -> std::io::Result<oneshot::Receiver<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (alive, ended) = oneshot::channel();
    std::thread::Builder::new().name("tidemill-heartbeat".to_owned()).spawn(move || {
        let _alive: oneshot::Sender<()> = alive;
        runtime.block_on(stop.run_until_cancelled(join_all(
            lanes.iter().flat_map(|lane| [Beat::Watch, Beat::Extend].map(|beat| beat.run(lane, &client))),
        )));
    })?;
    Ok(ended)
}

#[derive(Debug, Clone, Copy)]
enum Beat {
    /// Looks at the clock only, so that no call can hold it up.
    Watch,
    /// Calls the dispatcher.
    Extend,
}

impl Beat {
    async fn run(self, lane: &Pulse, client: &Client) {
        // Fine enough for the margin, and idle otherwise.
        let period = (lane.leases.length() / 50).clamp(Duration::from_millis(20), Duration::from_secs(1));
        let mut asked = Instant::now();
        let mut backoff = Backoff::new(period, lane.leases.margin());
        let mut not_before = asked;
        loop {
            let jitter = rand::rng().random_range(0.75..=1.0);
            sleep_until(Instant::now() + period.mul_f64(jitter)).await;
            match self {
                Beat::Watch => {
                    let lost = lane.leases.expire(Instant::now());
                    if lost > 0 {
                        tracing::warn!(
                            leases = lost,
                            "leases could not be extended in time: their handlers are stopped"
                        );
                    }
                }
                Beat::Extend if Instant::now() < not_before => {}
                Beat::Extend => {
                    let due = lane.leases.due(Instant::now());
                    let ask = lane.steer.is_quiet() && asked.elapsed() >= QUIET_ASKS;
                    if !due.is_empty() || ask {
                        asked = Instant::now();
                        match lane.extend(client, &due).await {
                            Ok(()) => backoff.reset(),
                            Err(error) => {
                                let error: &dyn std::error::Error = &error;
                                tracing::warn!(error, leases = due.len(), "a heartbeat failed");
                                not_before = backoff.until(None);
                            }
                        }
                    }
                }
            }
        }
    }
}

impl Pulse {
    /// One call for all that is due. A failed call is repeated soon, at the next dispatcher.
    async fn extend(&self, client: &Client, due: &[Lease]) -> Result<(), CallError> {
        let due = &due[..due.len().min(limit::HEARTBEAT_LEASES)];
        let extend_ms = Some(millis(self.leases.length()));
        let request = HeartbeatRequest {
            worker: self.worker.clone(),
            leases: due
                .iter()
                .map(|lease| HeartbeatItem { lease: lease.to_string(), extend_ms, progress: None })
                .collect(),
        };
        let timeout = (self.leases.length() / 6).clamp(Duration::from_millis(500), Duration::from_secs(10));
        let started = Instant::now();
        let answer: HeartbeatResponse = client.post("/v1/heartbeat", &request, timeout).await?;
        for item in answer.leases {
            match item.answer {
                HeartbeatAnswer::Ok => self.leases.extended(&item.lease, started),
                HeartbeatAnswer::Unavailable => {}
                HeartbeatAnswer::Stale => {
                    if self.leases.lost(&item.lease, Instant::now()) {
                        tracing::warn!("a lease is stale: its handler is stopped");
                    }
                }
            }
            if item.cancel != 0 {
                self.leases.cancelled(&item.lease, item.cancel);
            }
        }
        self.steer.hear(answer.state);
        Ok(())
    }
}
