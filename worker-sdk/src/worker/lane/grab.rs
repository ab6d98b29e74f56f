//! Asking for jobs.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tidemill_common::api::{self, GrabRequest, GrabResponse, ProblemKind, limit};
use tokio::time::Instant;

use super::super::RunError;
use super::super::attempt::AttemptTime;
use super::super::execute::Task;
use super::super::leases::Lease;
use super::super::outbox::Pending;
use super::{CALL_TIMEOUT, Lane, Ready};
use crate::client::CallError;
use crate::job::Stop;
use crate::outcome::millis;
use crate::progress::Reports;

/// How much work is fetched ahead, by the time that it takes.
const AHEAD: Duration = Duration::from_millis(100);

/// A grab under way.
pub(super) type GrabCall = BoxFuture<'static, Result<GrabResponse, CallError>>;

/// The grab's state. A request that may have been taken is repeated under its number, from its first start.
pub(super) enum Grab {
    Rest { not_before: Option<Instant> },
    Asked(Asked),
    Lost { number: u64, anchor: Instant, not_before: Instant },
}

pub(super) struct Asked {
    pub(super) number: u64,
    pub(super) anchor: Instant,
    pub(super) started: Instant,
    pub(super) wait: Duration,
    pub(super) results: Vec<Pending>,
    call: GrabCall,
}

impl Lane {
    /// How many jobs may be on hand: what the handlers get through in [`AHEAD`], at least one for each. The quicker they
    /// are, the more jobs share a request; a job that would wait longer here could run elsewhere.
    pub(super) fn capacity(&self) -> usize {
        let ahead = AHEAD.min(self.leases.length() / 12).as_nanos();
        let times = self.pace.map_or(1, |pace| ahead / pace.as_nanos().max(1));
        let times = usize::try_from(times).unwrap_or(usize::MAX).clamp(1, self.settings.prefetch);
        self.settings.concurrency * self.execute.batch() * times
    }

    /// How many jobs to ask for, if it is time to ask.
    pub(super) fn room(&self) -> Option<u32> {
        let capacity = self.capacity();
        let on_hand = self.ready.len() + self.running_jobs;
        let idle = self.ready.is_empty() && self.running.len() < self.settings.concurrency;
        let backlog = self.outbox.len() > 4 * capacity + limit::GRAB_JOBS as usize;
        if on_hand >= capacity || backlog || !(idle || on_hand * 2 <= capacity) {
            return None;
        }
        u32::try_from(capacity - on_hand).ok().map(|room| room.min(limit::GRAB_JOBS))
    }

    /// Is it time to ask for more?
    pub(super) fn may_grab(&self) -> bool {
        let rests = matches!(self.grab, Grab::Rest { not_before } if not_before.is_none_or(|at| at <= Instant::now()));
        rests && !self.steer.is_quiet() && self.room().is_some()
    }

    pub(super) fn begin_grab(&mut self) {
        if self.drain.is_some() || self.steer.is_quiet() {
            return;
        }
        let now = Instant::now();
        let (number, anchor) = match self.grab {
            Grab::Asked(_) => return,
            Grab::Rest { not_before } if not_before.is_some_and(|at| now < at) => return,
            Grab::Lost { not_before, .. } if now < not_before => return,
            Grab::Rest { .. } => (self.request + 1, None),
            Grab::Lost { number, anchor, .. } => (number, Some(anchor)),
        };
        let Some(max) = self.room() else { return };
        self.request = number;
        // Not those that were not taken a moment ago.
        let held_back = self.send_not_before.is_some_and(|at| now < at);
        let results = if held_back { Vec::new() } else { self.outbox.take() };
        // Results are answered when they are committed; only a request without any waits for work.
        let wait = if results.is_empty() { self.settings.wait } else { Duration::ZERO };
        self.ask(number, anchor, max, wait, results);
    }

    /// `anchor`: when the request was made first, if it is a repetition.
    pub(super) fn ask(
        &mut self,
        number: u64,
        anchor: Option<Instant>,
        max: u32,
        wait: Duration,
        results: Vec<Pending>,
    ) {
        let call = self.call(number, max, wait, &results);
        let started = Instant::now();
        let anchor = anchor.unwrap_or(started);
        self.grab = Grab::Asked(Asked { number, anchor, started, wait, results, call });
    }

    /// The request itself.
    pub(super) fn call(&self, number: u64, max: u32, wait: Duration, results: &[Pending]) -> GrabCall {
        let request = GrabRequest {
            queues: self.settings.queues.clone(),
            types: self.settings.types.clone(),
            max,
            lease_ms: Some(millis(self.leases.length())),
            wait_ms: millis(wait),
            transactional: self.settings.transactional,
            request: Some(number),
            worker: self.settings.worker.clone(),
            filter: None,
            results: results.iter().map(|pending| pending.item.clone()).collect(),
        };
        let client = Arc::clone(&self.client);
        async move { client.post("/v1/grab", &request, wait + CALL_TIMEOUT).await }.boxed()
    }

    pub(super) fn on_grab(&mut self, answer: Result<GrabResponse, CallError>) -> Result<(), RunError> {
        let Grab::Asked(asked) = std::mem::replace(&mut self.grab, Grab::Rest { not_before: None }) else {
            return Ok(());
        };
        let Asked { number, anchor, started, wait, results, .. } = asked;
        match answer {
            Ok(answer) => {
                self.answered = true;
                // An empty answer that comes at once although it could have waited must not become a storm.
                let hasty = answer.jobs.is_empty() && !wait.is_zero() && started.elapsed() < wait / 2;
                if hasty {
                    self.client.look_elsewhere();
                    self.grab = Grab::Rest { not_before: Some(self.grab_backoff.until(None)) };
                } else {
                    self.grab_backoff.reset();
                }
                self.settle(results, answer.results);
                // When the jobs were granted: of a request that may have waited it is its answer that tells.
                let again = anchor < started;
                let since = if wait.is_zero() || again { anchor } else { Instant::now() };
                self.take_in(answer.jobs, anchor, since, again);
                self.steer.hear(answer.state);
            }
            Err(error) => {
                // The results do not wait for the grab to be repeated.
                self.give_back(results);
                if !self.answered && is_hopeless(&error) {
                    return Err(RunError::Refused(error));
                }
                tracing::warn!(error = &error as &dyn std::error::Error, request = number, "a grab failed");
                let not_before = self.grab_backoff.until(error.retry_after());
                self.grab = if error.is_refusal() {
                    Grab::Rest { not_before: Some(not_before) }
                } else {
                    Grab::Lost { number, anchor, not_before }
                };
                self.release_again();
            }
        }
        Ok(())
    }

    /// `since`: from when on the time of these attempts is counted; `again`: the first answer was lost.
    pub(super) fn take_in(
        &mut self,
        jobs: Vec<api::GrabbedJob>,
        anchor: Instant,
        since: Instant,
        again: bool,
    ) {
        let usable = self.drain.is_none() && self.leases.is_trusted(anchor);
        let now = Instant::now();
        for grabbed in jobs {
            let lease: Lease = grabbed.lease.as_str().into();
            let (stop, reports) = (Stop::default(), Reports::default());
            let time = grabbed.timeout_ms.map(|timeout_ms| AttemptTime::new(timeout_ms, since));
            if !self.leases.hold(&lease, anchor, (stop.clone(), reports.clone()), time) {
                // Two answers to the same request, while shutting down.
                continue;
            }
            let is_late = again && time.is_some_and(|time| now >= time.begin_by());
            if usable && !is_late {
                self.timed |= time.is_some();
                let task = Task { lease, grabbed: Arc::new(grabbed), stop, reports, time };
                self.ready.push_back(Ready { task, anchor, waited: false });
            } else {
                self.tell(&lease, api::Outcome::Decline);
            }
        }
    }
}

pub(super) async fn grabbed(grab: &mut Grab) -> Result<GrabResponse, CallError> {
    match grab {
        Grab::Asked(asked) => (&mut asked.call).await,
        Grab::Rest { .. } | Grab::Lost { .. } => std::future::pending().await,
    }
}

/// Would the first grab be refused for ever? A queue may still be created, a right granted.
fn is_hopeless(error: &CallError) -> bool {
    let CallError::Refused(problem) = error else { return false };
    !matches!(
        problem.kind(),
        Some(ProblemKind::UnknownQueue | ProblemKind::Forbidden | ProblemKind::Conflict)
    )
}
