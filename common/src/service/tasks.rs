//! The tasks of a process. The first one that ends before it was asked to, or panics, stops the process:
//! half a service is worse than a restart.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio::sync::mpsc;

use super::admin::Beats;
use super::drive::{Loop, drive};
use super::metrics::StepMetrics;
use super::pace::Pace;
use super::shutdown::Shutdown;
use super::step::Step;
use super::wake::Wake;

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Starts tasks and loops; clones start them in the same process.
#[derive(Clone)]
pub struct Tasks {
    shutdown: Shutdown,
    beats: Beats,
    metrics: StepMetrics,
    /// Held by every running task: when the last one is dropped, the process has drained.
    ended: mpsc::UnboundedSender<Ended>,
}

/// How a task ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub name: String,
    pub outcome: Outcome,
}

#[derive(Debug)]
pub(super) enum Outcome {
    /// Its future is done.
    Done,
    /// Its future is done although it should run as long as the process.
    Returned,
    /// It gave up.
    Failed(BoxError),
    /// It panicked; the panic hook has reported it.
    Panicked,
}

/// The receiving end of [`Tasks`].
pub(super) struct Supervisor {
    ended: mpsc::UnboundedReceiver<Ended>,
}

impl Tasks {
    pub(super) fn new(shutdown: Shutdown, beats: Beats, metrics: StepMetrics) -> (Self, Supervisor) {
        let (ended, receiver) = mpsc::unbounded_channel();
        (Self { shutdown, beats, metrics, ended }, Supervisor { ended: receiver })
    }

    /// Runs a step until the process stops.
    pub fn run<S: Step + 'static>(&self, step: S, pace: Pace) -> Wake {
        self.run_until(step, pace, self.shutdown.clone())
    }

    /// Runs a step until `stop` (or a parent of it) is wanted: for loops that come and go, such as one per
    /// owned queue. Make `stop` with [`Shutdown::child`].
    pub fn run_until<S: Step + 'static>(&self, step: S, pace: Pace, stop: Shutdown) -> Wake {
        let wake = Wake::new();
        self.run_on(step, pace, stop, wake.clone());
        wake
    }

    /// Like [`Tasks::run_until`] with a wake-up that exists already.
    pub fn run_on<S: Step + 'static>(&self, step: S, pace: Pace, stop: Shutdown, wake: Wake) {
        let label = step.label();
        let name = if label.is_empty() { S::NAME.to_owned() } else { format!("{}[{label}]", S::NAME) };
        let beat = self.beats.join(name.clone());
        let with = Loop { pace, wake, shutdown: stop.clone(), metrics: self.metrics.clone(), beat };
        self.start(name, async move {
            drive(step, with).await;
            if stop.is_wanted() { Outcome::Done } else { Outcome::Returned }
        });
    }

    /// Runs a future as long as the process: it should end when [`Shutdown`] is wanted, not before.
    pub fn spawn<F, E>(&self, name: &str, future: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let shutdown = self.shutdown.clone();
        self.start(name.to_owned(), async move {
            match future.await {
                Err(error) => Outcome::Failed(error.into()),
                Ok(()) if shutdown.is_wanted() => Outcome::Done,
                Ok(()) => Outcome::Returned,
            }
        });
    }

    /// Runs a future that may end whenever it is done; a panic in it still stops the process. It is waited
    /// for when the process drains.
    pub fn once<F>(&self, name: &str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.start(name.to_owned(), async move {
            future.await;
            Outcome::Done
        });
    }

    /// The wish to stop.
    #[must_use]
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    fn start(&self, name: String, future: impl Future<Output = Outcome> + Send + 'static) {
        let ended = self.ended.clone();
        #[expect(clippy::disallowed_methods, reason = "this is where the tasks of a process are made")]
        tokio::spawn(async move {
            let outcome = AssertUnwindSafe(future).catch_unwind().await.unwrap_or(Outcome::Panicked);
            if !matches!(outcome, Outcome::Done) && ended.send(Ended { name, outcome }).is_err() {
                tracing::debug!("a task ended after its process stopped waiting");
            }
        });
    }
}

impl Supervisor {
    /// The next task that ended and should not have; `None` when no task runs any more and nobody could
    /// start one.
    pub(super) async fn loss(&mut self) -> Option<Ended> {
        self.ended.recv().await
    }
}
