//! Commands: what the HTTP side asks of the queue this process owns, and how it hears the answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidemill_common::api::{Outcome, Progress};
use tidemill_common::lease::Lease;
use tokio::sync::{mpsc, oneshot};

pub use crate::engine::Sighting;
use crate::engine::record::Holder;
use crate::engine::{Answered, Beat, Counts, Grab, RequestId};

/// A result names a lease; `None` if the text was no token at all.
pub type NamedLease = Option<Lease>;

/// One request to the owner of a queue.
#[derive(Debug)]
pub enum Command {
    /// Results first, then jobs.
    Grab { request: RequestId, grab: Grab, results: Vec<(NamedLease, Outcome)>, reply: Reply<Answered> },
    /// Results only.
    Results { request: RequestId, results: Vec<(NamedLease, Outcome)>, reply: Reply<Answered> },
    /// Leases to extend, and what their jobs say of themselves.
    Heartbeat { request: RequestId, leases: Vec<Beat>, reply: Reply<Answered> },
    /// A lease whose job is about to be replaced by a stream.
    Lend { request: RequestId, lease: Lease, reply: Reply<Answered> },
    /// That stream is committed: so many jobs.
    Streamed { lease: Lease, count: u64 },
    /// Nobody knows whether something was committed: take the queue over again.
    Doubt,
    /// The client is gone: its grab waits no longer.
    HangUp { request: RequestId },
    /// What the owner knows of this job.
    Look { job: i64, reply: Reply<Looked> },
    /// Who holds leases, and how many.
    Holders { reply: Reply<Vec<(Arc<Holder>, u64)>> },
    /// How much there is.
    Count { reply: Reply<Counts> },
}

/// What an owner knows of a job.
#[derive(Debug, Clone)]
pub struct Looked {
    /// If it is in the window.
    pub sighting: Option<Sighting>,
    /// What it said of itself last, wherever it is.
    pub progress: Option<Arc<Progress>>,
}

/// Where an answer goes. Dropped unanswered: the queue has no owner at this moment.
pub type Reply<T> = oneshot::Sender<T>;

/// The queue is not owned by this process at this moment, or is about to change hands: ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the queue has no owner at this moment")]
pub struct Unavailable;

static NEXT_REQUEST: AtomicU64 = AtomicU64::new(1);

/// Sends commands to the server of one queue.
#[derive(Debug, Clone)]
pub struct QueueHandle(mpsc::Sender<Command>);

impl QueueHandle {
    /// A handle, and where its commands arrive; at most `capacity` wait there.
    #[must_use]
    pub fn channel(capacity: usize) -> (Self, mpsc::Receiver<Command>) {
        let (sender, receiver) = mpsc::channel(capacity);
        (Self(sender), receiver)
    }

    /// Results, then jobs: answered when both are committed, or nothing came within `wait_ms`.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub async fn grab(
        &self,
        grab: Grab,
        results: Vec<(NamedLease, Outcome)>,
    ) -> Result<Answered, Unavailable> {
        self.ask(|request, reply| Command::Grab { request, grab, results, reply }).await
    }

    /// Results, answered when they are committed.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub async fn results(&self, results: Vec<(NamedLease, Outcome)>) -> Result<Answered, Unavailable> {
        self.ask(|request, reply| Command::Results { request, results, reply }).await
    }

    /// Extensions, answered when they are committed.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub async fn heartbeat(&self, leases: Vec<Beat>) -> Result<Answered, Unavailable> {
        self.ask(|request, reply| Command::Heartbeat { request, leases, reply }).await
    }

    /// A lease whose job is about to be replaced by a stream: answered when it is in the waiting room.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub async fn lend(&self, lease: Lease) -> Result<Answered, Unavailable> {
        self.ask(|request, reply| Command::Lend { request, lease, reply }).await
    }

    /// The stream of a lease is committed. A server that is gone reads it in the journal.
    pub async fn streamed(&self, lease: Lease, count: u64) {
        drop(self.0.send(Command::Streamed { lease, count }).await);
    }

    /// Whether the stream of a lease is committed, only the journal knows.
    pub async fn doubt(&self) {
        drop(self.0.send(Command::Doubt).await);
    }

    /// What the owner knows of a job.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub async fn look(&self, job: i64) -> Result<Looked, Unavailable> {
        self.ask(|_, reply| Command::Look { job, reply }).await
    }

    /// Who holds leases of jobs in the window, and how many.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub async fn holders(&self) -> Result<Vec<(Arc<Holder>, u64)>, Unavailable> {
        self.ask(|_, reply| Command::Holders { reply }).await
    }

    /// How much there is.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub async fn count(&self) -> Result<Counts, Unavailable> {
        self.ask(|_, reply| Command::Count { reply }).await
    }

    /// If this future is dropped before the answer, the server is told that nobody listens any more.
    async fn ask<T>(&self, command: impl FnOnce(RequestId, Reply<T>) -> Command) -> Result<T, Unavailable> {
        let request = RequestId(NEXT_REQUEST.fetch_add(1, Ordering::Relaxed));
        let (reply, answer) = oneshot::channel();
        self.0.send(command(request, reply)).await.map_err(|_| Unavailable)?;
        let mut guard = HangUp { server: &self.0, request, answered: false };
        let answer = answer.await.map_err(|_| Unavailable);
        guard.answered = true;
        answer
    }
}

struct HangUp<'a> {
    server: &'a mpsc::Sender<Command>,
    request: RequestId,
    answered: bool,
}

impl Drop for HangUp<'_> {
    fn drop(&mut self) {
        if !self.answered {
            // A full channel loses the hint only: the answer then finds nobody, and its leases are given back.
            drop(self.server.try_send(Command::HangUp { request: self.request }));
        }
    }
}
