//! A job in a worker's hands.

use std::fmt;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, OnceLock};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_common::api::{GrabbedJob, Progress};
use tidemill_common::id::{JobId, QueueName};
use tokio_util::sync::CancellationToken;

use crate::progress::{InvalidProgress, Reports};
use crate::worker::AttemptTime;

/// A type of job: its arguments, as they travel, and its name.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// #[derive(Serialize, Deserialize)]
/// struct SendEmail {
///     to: String,
/// }
///
/// impl tidemill_worker::JobKind for SendEmail {
///     const TYPE: &'static str = "send_email";
/// }
/// ```
pub trait JobKind: Serialize + DeserializeOwned + Send + 'static {
    /// The job type: 1 to 255 bytes, the same in producers and workers.
    const TYPE: &'static str;
}

/// A leased job with its arguments.
pub struct Job<T> {
    /// What the producer gave.
    pub args: T,
    pub(crate) grabbed: Arc<GrabbedJob>,
    pub(crate) stop: Stop,
    pub(crate) reports: Reports,
    pub(crate) time: Option<AttemptTime>,
}

impl<T> Job<T> {
    /// Its id: the same in every attempt.
    pub fn id(&self) -> &JobId {
        &self.grabbed.id
    }

    /// The queue it came from.
    pub fn queue(&self) -> &QueueName {
        &self.grabbed.queue
    }

    /// Its type.
    pub fn job_type(&self) -> &str {
        &self.grabbed.job_type
    }

    /// 1 for the first attempt.
    pub fn attempt(&self) -> u32 {
        self.grabbed.attempt
    }

    /// If this attempt fails, will there be no other?
    pub fn is_last_attempt(&self) -> bool {
        self.grabbed.attempt >= self.grabbed.max_attempts
    }

    /// The lease's token, for a resource that wants to fence late writers too.
    pub fn lease(&self) -> &str {
        &self.grabbed.lease
    }

    /// Everything the dispatcher said: origin of a moved event, previous holder, extra columns…
    pub fn details(&self) -> &GrabbedJob {
        &self.grabbed
    }

    /// What an earlier attempt reported last, if the dispatcher still knows it: it is kept in memory only, so a handler
    /// must be able to begin from the start.
    pub fn progress(&self) -> Option<&Progress> {
        self.grabbed.progress.as_ref()
    }

    /// Says how far this attempt is, for people who look at the job, and where the next one can go on. Of several reports
    /// only the newest travels, with a heartbeat of the lease: nothing is waited for, and a handler may report as often as
    /// it likes. What a report leaves open stays as it was. When a handler fails, or declines, its last report is sent
    /// first (of a [`TransactionalHandler`](crate::TransactionalHandler) it is not: a batch begins again as a whole).
    ///
    /// ```
    /// # use tidemill_worker::{Failure, Job, Progress};
    /// async fn import(job: Job<Vec<String>>) -> Result<(), Failure> {
    ///     let before = job.progress().and_then(|progress| progress.read_checkpoint().ok().flatten());
    ///     for page in before.unwrap_or(0)..job.args.len() {
    ///         // … import it, then:
    ///         job.report(Progress::default().with_checkpoint(&(page + 1))?)?;
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// A percentage above 100, a message or checkpoint of more than 4 KiB, or the character U+0000.
    pub fn report(&self, progress: Progress) -> Result<(), InvalidProgress> {
        self.reports.say(self.grabbed.progress.as_ref(), progress)
    }

    /// Asks the handler to stop. A handler that lasts long should heed it.
    pub fn stop(&self) -> &Stop {
        &self.stop
    }
}

impl<T: fmt::Debug> fmt::Debug for Job<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let GrabbedJob { id, queue, job_type, attempt, .. } = &*self.grabbed;
        f.debug_struct("Job")
            .field("id", id)
            .field("queue", queue)
            .field("type", job_type)
            .field("attempt", attempt)
            .field("args", &self.args)
            .finish_non_exhaustive()
    }
}

/// Why a handler should stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The lease ended, was taken over, or can no longer be trusted: somebody else may be doing this job. Its result
    /// will not count. The handler is dropped shortly after.
    LeaseLost,
    /// Somebody cancelled the job, with this code.
    Cancelled(i32),
    /// The job's timeout is nearly over. A handler that is not done shortly after is dropped, and the attempt has failed.
    TimedOut,
    /// The worker is shutting down and its time for draining is over.
    Shutdown,
}

/// A request to stop, heard by awaiting or by asking.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Asked>);

#[derive(Debug, Default)]
struct Asked {
    reason: OnceLock<StopReason>,
    /// Made when somebody wants to wait: most handlers never do.
    token: OnceLock<CancellationToken>,
}

impl Stop {
    /// Waits until the handler should stop.
    pub async fn requested(&self) -> StopReason {
        self.token().cancelled().await;
        self.reason().unwrap_or(StopReason::LeaseLost)
    }

    /// The reason, if the handler should stop now.
    pub fn reason(&self) -> Option<StopReason> {
        self.0.reason.get().copied()
    }

    /// For code that takes a token.
    pub fn token(&self) -> &CancellationToken {
        let token = self.0.token.get_or_init(CancellationToken::new);
        // Either this sees the reason, or who gave it sees the token.
        fence(Ordering::SeqCst);
        if self.reason().is_some() {
            token.cancel();
        }
        token
    }

    /// The first reason stays. True if this was the first.
    pub(crate) fn request(&self, reason: StopReason) -> bool {
        let first = self.0.reason.set(reason).is_ok();
        fence(Ordering::SeqCst);
        if let Some(token) = self.0.token.get() {
            token.cancel();
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_stop_is_heard_by_who_waited_before_and_by_who_waits_after() {
        let stop = Stop::default();
        let before = stop.clone();
        let mut waiting = Box::pin(before.requested());
        assert!((&mut waiting).now_or_never().is_none());
        assert!(stop.request(StopReason::Cancelled(7)));
        assert!(!stop.request(StopReason::LeaseLost), "the first reason stays");
        assert_eq!(waiting.now_or_never(), Some(StopReason::Cancelled(7)));

        let unheard = Stop::default();
        unheard.request(StopReason::Shutdown);
        assert!(unheard.token().is_cancelled());
        assert_eq!(unheard.requested().now_or_never(), Some(StopReason::Shutdown));
    }
}
