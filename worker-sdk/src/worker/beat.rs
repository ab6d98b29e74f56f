//! The heartbeat: extends leases, hears of cancellations, and stops handlers whose lease cannot be trusted any more.
//!
//! It has a thread, a runtime and connections of its own, so that handlers that hog every core or block the program's
//! runtime do not starve it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rand::Rng;
use tidemill_common::api::{
    HeartbeatAnswer, HeartbeatItem, HeartbeatRequest, HeartbeatResponse, Progress, WorkerInfo, limit,
};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::leases::{Lease, Leases};
use super::steer::Steer;
use crate::backoff::Backoff;
use crate::client::{CallError, Client};
use crate::outcome::millis;
use crate::progress::Reports;

/// How often a lane that was told to be quiet asks whether it still is.
const QUIET_ASKS: Duration = Duration::from_secs(2);

/// A body must stay below the dispatcher's limit, a megabyte: it would be refused as a whole, with all its leases.
const BODY_BYTES: usize = 900 << 10;
/// A lease takes about so much of it.
const LEASE_BYTES: usize = 110;
/// Reports have this room in any case.
const LEAST_BYTES: usize = 64 << 10;

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
    async fn extend(&self, client: &Client, due: &[(Lease, Reports)]) -> Result<(), CallError> {
        let due = &due[..due.len().min(limit::HEARTBEAT_LEASES)];
        let extend_ms = Some(millis(self.leases.length()));
        let mut told = told(due);
        let item = |((lease, _), told): (&(Lease, Reports), &mut Option<(u64, Progress)>)| HeartbeatItem {
            lease: lease.to_string(),
            extend_ms,
            progress: told.as_mut().map(|(_, progress)| std::mem::take(progress)),
        };
        let leases = due.iter().zip(&mut told).map(item).collect();
        let request = HeartbeatRequest { worker: self.worker.clone(), leases };
        let timeout = (self.leases.length() / 6).clamp(Duration::from_millis(500), Duration::from_secs(10));
        let started = Instant::now();
        let answer: HeartbeatResponse = client.post("/v1/heartbeat", &request, timeout).await?;
        for ((item, (_, reports)), told) in answer.leases.into_iter().zip(due).zip(told) {
            match item.answer {
                HeartbeatAnswer::Ok => {
                    self.leases.extended(&item.lease, started);
                    if let Some((number, _)) = told {
                        reports.heard(number);
                    }
                }
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

/// The reports that travel with these leases, each with its number. First those that the dispatcher does not have, then
/// the others, of which the queue's next owner would know nothing; as many as there is room for.
fn told(due: &[(Lease, Reports)]) -> Vec<Option<(u64, Progress)>> {
    let mut room = BODY_BYTES.saturating_sub(due.len() * LEASE_BYTES).max(LEAST_BYTES);
    let mut told = vec![None; due.len()];
    for new in [true, false] {
        for ((_, reports), told) in due.iter().zip(&mut told) {
            if told.is_none()
                && reports.waits() == new
                && let Some(newest) = reports.newest()
                && let Some(rest) = room.checked_sub(bytes(&newest.1))
            {
                room = rest;
                *told = Some(newest);
            }
        }
    }
    told
}

/// Of a report as it is written.
fn bytes(report: &Progress) -> usize {
    serde_json::to_string(report).map_or(0, |text| text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_reports_travel_first_and_no_more_than_there_is_room_for() {
        let reports = |n: u8| {
            let reports = Reports::default();
            let report = Progress::default().with_percent(n).with_message("x".repeat(4_000));
            reports.say(None, report).unwrap();
            (Lease::from(format!("lease {n}")), reports)
        };
        let mut due: Vec<_> = (0..=100).cycle().take(300).map(reports).collect();
        for (_, known) in &due[..100] {
            known.heard(1);
        }
        due.push(("silent".into(), Reports::default()));
        let told = told(&due);
        let total: usize = told.iter().flatten().map(|(_, report)| bytes(report)).sum();
        assert!((700_000..BODY_BYTES).contains(&total), "{total}");
        assert!(told[100..300].iter().all(Option::is_some) && told[300].is_none());
        assert!(told[0].is_some() && told[99].is_none());
    }
}
