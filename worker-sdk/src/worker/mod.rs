//! Work: grab jobs, carry them out, tell what became of them.

mod attempt;
mod beat;
mod builder;
mod execute;
mod lane;
mod leases;
mod outbox;
mod steer;
mod summary;
mod transactional;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

pub(crate) use attempt::AttemptTime;
pub use builder::{BuildError, WorkerBuilder};
pub use execute::UnknownType;
pub use summary::Summary;
pub use transactional::{Transactional, TransactionalHandler};

use crate::client::{CallError, Client};
use beat::Pulse;
use execute::Execute;
use lane::{Lane, LaneSettings};
use leases::Leases;
use steer::Steer;

/// A program that carries out jobs. See the [crate's example](crate).
pub struct Worker {
    client: Arc<Client>,
    /// The heartbeat's connections are its own.
    heartbeat: Client,
    lanes: Vec<LaneParts>,
    lease: Duration,
}

struct LaneParts {
    settings: LaneSettings,
    execute: Arc<dyn Execute>,
}

/// Why a worker stopped working.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The dispatcher refuses the worker's first request: a wrong token, a wrong address, another version.
    #[error("grab the first jobs")]
    Refused(#[source] CallError),
    /// The heartbeat's thread could not be started.
    #[error("start the heartbeat")]
    Heartbeat(#[source] std::io::Error),
    /// The heartbeat's thread died, so no lease can be kept.
    #[error("the heartbeat's thread died")]
    HeartbeatDied,
    /// A fetch loop panicked: a fault of this library.
    #[error("a fetch loop died")]
    Died(#[source] JoinError),
}

impl Worker {
    /// A worker that asks the dispatcher at `url` (`http://host:8080`).
    pub fn builder(url: impl Into<String>) -> WorkerBuilder {
        WorkerBuilder::new(url.into())
    }

    /// Works until `shutdown` ends or a dispatcher says to terminate, then drains: grabs nothing more, gives back what
    /// was not started, lets handlers finish within the drain budget and sends their results.
    ///
    /// A dispatcher that does not answer is asked again for ever, with jittered back-off.
    ///
    /// # Errors
    /// [`RunError`]. Leases that are held then end by themselves.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<Summary, RunError> {
        let stop = CancellationToken::new();
        let over = CancellationToken::new();
        // Also when this future is dropped.
        let _over = over.clone().drop_guard();
        let mut lanes = JoinSet::new();
        let mut pulses = Vec::new();
        for LaneParts { settings, execute } in self.lanes {
            let leases = Arc::new(Leases::new(self.lease));
            let steer = Arc::new(Steer::new(stop.clone()));
            pulses.push(Pulse {
                worker: settings.worker.clone(),
                leases: Arc::clone(&leases),
                steer: Arc::clone(&steer),
            });
            lanes.spawn(Lane::new(settings, Arc::clone(&self.client), leases, steer, execute).run());
        }
        let mut heartbeat = beat::start(self.heartbeat, pulses, over).map_err(RunError::Heartbeat)?;

        let mut shutdown = std::pin::pin!(shutdown);
        let mut summary = Summary::default();
        loop {
            tokio::select! {
                () = &mut shutdown, if !stop.is_cancelled() => stop.cancel(),
                ended = lanes.join_next() => match ended {
                    Some(ended) => summary.add(ended.map_err(RunError::Died)??),
                    None => return Ok(summary),
                },
                _ = &mut heartbeat => return Err(RunError::HeartbeatDied),
            }
        }
    }
}

/// Ends when the process is told to stop: SIGTERM (Kubernetes, systemd) or SIGINT (Ctrl-C).
///
/// # Errors
/// The signals cannot be watched.
pub fn shutdown_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
