//! Commands: what the HTTP side asks of the queue this process owns, and how it hears the answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidemill_common::api::{Outcome, Progress, Rates};
use tidemill_common::lease::Lease;
use tokio::sync::{mpsc, oneshot};

pub use crate::engine::Sighting;
use crate::engine::record::Holder;
use crate::engine::{Answered, Beat, Counts, Grab, Granted, Listed, Listing, Paused, RequestId, Target};

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
    /// Jobs that are to end.
    Cancel { request: RequestId, target: Target, code: i32, reply: Reply<Answered> },
    /// What is paused from now on.
    Pause { request: RequestId, paused: Paused, reply: Reply<Answered> },
    /// That stream is committed: so many jobs.
    Streamed { lease: Lease, count: u64 },
    /// Nobody knows whether something was committed: take the queue over again.
    Doubt,
    /// The client is gone: its grab waits no longer.
    HangUp { request: RequestId },
    /// These jobs were answered, and nobody has read that: their leases are given back.
    Undelivered { jobs: Vec<Granted> },
    /// What the owner knows of this job.
    Look { job: i64, reply: Reply<Looked> },
    /// The next step of a list.
    List { listing: Box<Listing>, reply: Reply<Box<Listing>> },
    /// Who holds leases, and how many.
    Holders { reply: Reply<Vec<(Arc<Holder>, u64)>> },
    /// What people want to know of the queue.
    Show { reply: Reply<Shown> },
    /// How much there is.
    Count { reply: Reply<Counts> },
}

/// What an owner tells people of its queue.
#[derive(Debug, Clone)]
pub struct Shown {
    pub counts: Counts,
    pub rates: Rates,
    /// How many jobs the window may hold, and how many bytes of them.
    pub window: (usize, usize),
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

    /// Jobs that are to end: answered when none of them will be given out any more.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub async fn cancel(&self, target: Target, code: i32) -> Result<Answered, Unavailable> {
        self.ask(|request, reply| Command::Cancel { request, target, code, reply }).await
    }

    /// Nothing else than this is paused from now on, unless the owner knows of a later order: answered when no more of it
    /// is handed out.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub async fn pause(&self, paused: Paused) -> Result<Answered, Unavailable> {
        self.ask(|request, reply| Command::Pause { request, paused, reply }).await
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

    /// A page of the jobs in the window: step by step, so that the owner is never held up by it.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub async fn list(&self, listing: Listing) -> Result<Vec<Listed>, Unavailable> {
        let mut listing = Box::new(listing);
        while !listing.is_done() {
            listing = self.ask(|_, reply| Command::List { listing, reply }).await?;
        }
        Ok(listing.into_jobs())
    }

    /// Who holds leases of jobs in the window, and how many.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub async fn holders(&self) -> Result<Vec<(Arc<Holder>, u64)>, Unavailable> {
        self.ask(|_, reply| Command::Holders { reply }).await
    }

    /// What people want to know of the queue.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub async fn show(&self) -> Result<Shown, Unavailable> {
        self.ask(|_, reply| Command::Show { reply }).await
    }

    /// How much there is.
    ///
    /// # Errors
    /// [`Unavailable`]
    pub async fn count(&self) -> Result<Counts, Unavailable> {
        self.ask(|_, reply| Command::Count { reply }).await
    }

    /// If this future is dropped before the answer is read, the server is told that nobody listens any more.
    async fn ask<T: Unread>(
        &self,
        command: impl FnOnce(RequestId, Reply<T>) -> Command,
    ) -> Result<T, Unavailable> {
        let request = RequestId(NEXT_REQUEST.fetch_add(1, Ordering::Relaxed));
        let (reply, answer) = oneshot::channel();
        self.0.send(command(request, reply)).await.map_err(|_| Unavailable)?;
        let mut waiting = Waiting { server: &self.0, request, answer: Some(answer) };
        let answer = match &mut waiting.answer {
            Some(answer) => answer.await.map_err(|_| Unavailable),
            None => Err(Unavailable),
        };
        waiting.answer = None;
        answer
    }
}

/// What must not be lost with an answer that nobody reads.
trait Unread: Sized {
    /// Leases that were granted in it.
    fn granted(self) -> Vec<Granted> {
        Vec::new()
    }
}

impl Unread for Answered {
    fn granted(self) -> Vec<Granted> {
        match self {
            Self::Grab { jobs, .. } => jobs,
            Self::Results(_)
            | Self::Heartbeat(_)
            | Self::Lent { .. }
            | Self::Cancelled { .. }
            | Self::Paused
            | Self::Refused(_) => Vec::new(),
        }
    }
}

impl Unread for Looked {}
impl Unread for Box<Listing> {}
impl Unread for Shown {}
impl Unread for Counts {}
impl Unread for Vec<(Arc<Holder>, u64)> {}

/// Somebody waits for an answer; `None`: it is read.
struct Waiting<'a, T: Unread> {
    server: &'a mpsc::Sender<Command>,
    request: RequestId,
    answer: Option<oneshot::Receiver<T>>,
}

impl<T: Unread> Drop for Waiting<'_, T> {
    fn drop(&mut self) {
        let Some(mut answer) = self.answer.take() else { return };
        // From here on the server notices by itself that nobody listens. Before, it may have answered already.
        answer.close();
        let jobs = answer.try_recv().map(Unread::granted).unwrap_or_default();
        let command = if jobs.is_empty() {
            Command::HangUp { request: self.request }
        } else {
            Command::Undelivered { jobs }
        };
        // A full channel loses the hint only: these leases are given out again when they end.
        drop(self.server.try_send(command));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::engine::Micros;

    fn grab() -> Grab {
        let holder = Arc::new(Holder { instance: uuid::Uuid::new_v4(), host: String::new(), pid: 1 });
        Grab {
            types: None,
            max: 1,
            lease_ms: None,
            wait_ms: 100,
            transactional: false,
            number: None,
            filter: None,
            holder,
        }
    }

    fn granted() -> Granted {
        Granted {
            lease: "l-1-1-1-7-0-1-00000000000000aa".parse().unwrap(),
            ends_at: Micros(2),
            inserted_at: Micros(1),
            max_attempts: 3,
            timeout_ms: None,
            previous: None,
            progress: None,
            origin: None,
            event: Arc::default(),
        }
    }

    #[test]
    fn jobs_that_were_answered_and_not_read_are_given_back() {
        let (handle, mut commands) = QueueHandle::channel(4);
        let mut asked = Box::pin(handle.grab(grab(), Vec::new()));
        assert!((&mut asked).now_or_never().is_none());
        let Ok(Command::Grab { reply, .. }) = commands.try_recv() else { panic!("no grab") };
        reply.send(Answered::Grab { jobs: vec![granted()], results: Vec::new() }).unwrap();
        drop(asked);
        let Ok(Command::Undelivered { jobs }) = commands.try_recv() else { panic!("nothing given back") };
        assert_eq!(jobs[0].lease, granted().lease);
        assert!(commands.try_recv().is_err());
    }

    #[test]
    fn who_leaves_before_the_answer_hangs_up_and_who_reads_it_says_nothing() {
        let (handle, mut commands) = QueueHandle::channel(4);
        let mut asked = Box::pin(handle.grab(grab(), Vec::new()));
        assert!((&mut asked).now_or_never().is_none());
        let Ok(Command::Grab { request, reply, .. }) = commands.try_recv() else { panic!("no grab") };
        drop(asked);
        assert!(matches!(commands.try_recv(), Ok(Command::HangUp { request: of }) if of == request));
        assert!(reply.is_closed());

        let mut asked = Box::pin(handle.grab(grab(), Vec::new()));
        assert!((&mut asked).now_or_never().is_none());
        let Ok(Command::Grab { reply, .. }) = commands.try_recv() else { panic!("no grab") };
        reply.send(Answered::Grab { jobs: vec![granted()], results: Vec::new() }).unwrap();
        assert!(matches!((&mut asked).now_or_never(), Some(Ok(Answered::Grab { .. }))));
        drop(asked);
        assert!(commands.try_recv().is_err());
    }
}
