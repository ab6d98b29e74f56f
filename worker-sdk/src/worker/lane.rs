//! A lane: one fetch loop and the jobs it has on hand.
//!
//! One task owns everything: jobs that wait, jobs that run, results that are not answered, at most one grab and one
//! results call under way. Results travel with the next grab; those that finish while a grab waits for work are sent by
//! themselves.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tidemill_common::api::{
    self, Answer, GrabRequest, GrabResponse, ProblemKind, ResultAnswer, ResultsRequest, ResultsResponse,
    WorkerInfo, limit,
};
use tidemill_common::id::QueueName;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::RunError;
use super::execute::{Execute, Task, Verdict};
use super::leases::{Lease, Leases};
use super::outbox::{Outbox, Pending, by_lease};
use super::steer::Steer;
use super::summary::Summary;
use crate::backoff::Backoff;
use crate::client::{CallError, Client};
use crate::job::{Stop, StopReason};
use crate::outcome::millis;

/// How long results wait for a grab to travel with.
const LINGER: Duration = Duration::from_millis(5);
/// How long a call without waiting may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// After the drain budget: time for handlers to heed the request to stop, and to send the last results.
const STOP_GRACE: Duration = Duration::from_secs(1);
const FLUSH_GRACE: Duration = Duration::from_secs(3);

/// What a lane is asked to do.
#[derive(Debug, Clone)]
pub(crate) struct LaneSettings {
    pub(crate) queues: Vec<QueueName>,
    pub(crate) types: Option<Vec<String>>,
    pub(crate) transactional: bool,
    /// Calls of handlers at the same time.
    pub(crate) concurrency: usize,
    /// How many times that to keep on hand.
    pub(crate) prefetch: usize,
    pub(crate) wait: Duration,
    pub(crate) drain: Duration,
    pub(crate) worker: WorkerInfo,
}

/// One fetch loop.
pub(crate) struct Lane {
    settings: LaneSettings,
    client: Arc<Client>,
    leases: Arc<Leases>,
    steer: Arc<Steer>,
    execute: Arc<dyn Execute>,
    /// Leased, not started; the oldest first.
    ready: VecDeque<Ready>,
    running: JoinSet<(Vec<(Lease, Verdict)>, Duration)>,
    /// Which leases each running call is about.
    calls: HashMap<Id, Vec<Lease>>,
    running_jobs: usize,
    outbox: Outbox,
    grab: Grab,
    grab_backoff: Backoff,
    request: u64,
    /// Has any grab been answered?
    answered: bool,
    send: Option<Sending>,
    send_backoff: Backoff,
    send_not_before: Option<Instant>,
    /// How long a call of a handler takes, averaged; unknown before the first.
    pace: Option<Duration>,
    drain: Option<Drain>,
    summary: Summary,
}

struct Ready {
    task: Task,
    anchor: Instant,
}

/// The grab's state. A request that may have been taken is repeated under its number, from its first start.
enum Grab {
    Rest { not_before: Option<Instant> },
    Asked(Asked),
    Lost { number: u64, anchor: Instant, not_before: Instant },
}

struct Asked {
    number: u64,
    anchor: Instant,
    started: Instant,
    wait: Duration,
    results: Vec<Pending>,
    call: BoxFuture<'static, Result<GrabResponse, CallError>>,
}

struct Sending {
    results: Vec<Pending>,
    call: BoxFuture<'static, Result<ResultsResponse, CallError>>,
}

/// Shutting down: when patience with the handlers ends.
struct Drain {
    stop_at: Instant,
    drop_at: Instant,
    leave_at: Instant,
    dropped: bool,
    /// Tries left to find out about a grab that was given up.
    releases: u8,
}

impl Lane {
    pub(crate) fn new(
        settings: LaneSettings,
        client: Arc<Client>,
        leases: Arc<Leases>,
        steer: Arc<Steer>,
        execute: Arc<dyn Execute>,
    ) -> Lane {
        let backoff = || Backoff::new(Duration::from_millis(50), Duration::from_secs(3));
        Lane {
            settings,
            client,
            leases,
            steer,
            execute,
            ready: VecDeque::new(),
            running: JoinSet::new(),
            calls: HashMap::new(),
            running_jobs: 0,
            outbox: Outbox::default(),
            grab: Grab::Rest { not_before: None },
            grab_backoff: backoff(),
            request: 0,
            answered: false,
            send: None,
            send_backoff: backoff(),
            send_not_before: None,
            pace: None,
            drain: None,
            summary: Summary::default(),
        }
    }

    /// Works until told to stop, then drains.
    ///
    /// # Errors
    /// The dispatcher refuses the very first grab for a reason that will not pass.
    pub(crate) async fn run(mut self) -> Result<Summary, RunError> {
        let steer = Arc::clone(&self.steer);
        let mut quiet = steer.watch();
        loop {
            if self.drain.is_none() && steer.is_stopping() {
                self.begin_drain();
            }
            self.decline_overdue();
            self.start_ready();
            self.begin_grab();
            self.begin_send();
            if self.is_drained() {
                self.summary.unsent += self.outbox.len() as u64;
                return Ok(self.summary);
            }
            let wake = self.next_deadline();
            tokio::select! {
                () = steer.stopping(), if self.drain.is_none() => {}
                // An error would mean that the sender is gone, and we hold it.
                Ok(()) = quiet.changed() => {}
                answer = grabbed(&mut self.grab) => self.on_grab(answer)?,
                answer = sent(&mut self.send) => self.on_sent(answer),
                Some(ended) = self.running.join_next_with_id() => self.on_ended(ended),
                () = sleep_until(wake) => {}
            }
        }
    }

    fn now_and(&self) -> Instant {
        // A result is worth sending until its lease is over by any reckoning, extensions in doubt included.
        Instant::now() + self.leases.length() * 2 + CALL_TIMEOUT
    }

    fn tell(&mut self, lease: &str, outcome: api::Outcome) {
        let give_up_at = self.now_and();
        self.outbox.push(Pending::new(lease, outcome, give_up_at));
    }

    // ---- work

    fn start_ready(&mut self) {
        while self.drain.is_none() && self.running.len() < self.settings.concurrency && !self.ready.is_empty()
        {
            let batch = self.execute.batch().min(self.ready.len());
            let tasks: Vec<Task> = self.ready.drain(..batch).map(|ready| ready.task).collect();
            let held: Vec<Lease> = tasks.iter().map(|task| Arc::clone(&task.lease)).collect();
            let call = Arc::clone(&self.execute).run(tasks);
            let handle = self.running.spawn(async move {
                let started = Instant::now();
                (call.await, started.elapsed())
            });
            if self.execute.droppable() {
                for lease in &held {
                    self.leases.droppable(lease, handle.clone());
                }
            }
            self.running_jobs += held.len();
            self.calls.insert(handle.id(), held);
        }
    }

    fn on_ended(&mut self, ended: Result<(Id, (Vec<(Lease, Verdict)>, Duration)), JoinError>) {
        match ended {
            Ok((id, (verdicts, took))) => {
                self.running_jobs -= self.calls.remove(&id).map_or(0, |leases| leases.len());
                self.pace = Some(self.pace.map_or(took, |pace| pace.mul_f64(0.8) + took.mul_f64(0.2)));
                for (lease, verdict) in verdicts {
                    match verdict {
                        Verdict::Send(outcome) => self.tell(&lease, outcome),
                        Verdict::Committed => {
                            self.summary.succeeded += 1;
                            self.leases.release(&lease);
                        }
                        Verdict::Gone => {
                            self.summary.lost += 1;
                            self.leases.release(&lease);
                        }
                    }
                }
            }
            Err(error) => {
                let leases = self.calls.remove(&error.id()).unwrap_or_default();
                self.running_jobs -= leases.len();
                for lease in leases {
                    if self.drain.as_ref().is_some_and(|drain| drain.dropped) {
                        // It has ended, so another worker may have it.
                        self.tell(&lease, api::Outcome::Decline);
                    } else {
                        self.summary.lost += 1;
                        self.leases.release(&lease);
                    }
                }
            }
        }
    }

    /// Jobs that wait here for half of their lease are better off elsewhere, and fewer must be fetched ahead.
    fn decline_overdue(&mut self) {
        let now = Instant::now();
        while let Some(oldest) = self.ready.front()
            && now >= self.overdue_at(oldest)
        {
            self.pace = Some(self.leases.length());
            if let Some(Ready { task, .. }) = self.ready.pop_front() {
                self.tell(&task.lease, api::Outcome::Decline);
            }
        }
    }

    fn overdue_at(&self, ready: &Ready) -> Instant {
        ready.anchor + self.leases.length() / 2
    }

    // ---- grab

    /// How many jobs may be on hand. Ahead of need only while calls are short: a job that waits behind long ones
    /// could run elsewhere.
    fn capacity(&self) -> usize {
        let short = self.pace.is_some_and(|pace| pace < self.leases.length() / 12);
        self.settings.concurrency * self.execute.batch() * if short { self.settings.prefetch } else { 1 }
    }

    /// How many jobs to ask for, if it is time to ask.
    fn room(&self) -> Option<u32> {
        let capacity = self.capacity();
        let on_hand = self.ready.len() + self.running_jobs;
        let idle = self.ready.is_empty() && self.running.len() < self.settings.concurrency;
        let backlog = self.outbox.len() > 4 * capacity + limit::GRAB_JOBS as usize;
        if on_hand >= capacity || backlog || !(idle || on_hand * 2 <= capacity) {
            return None;
        }
        u32::try_from(capacity - on_hand).ok().map(|room| room.min(limit::GRAB_JOBS))
    }

    fn begin_grab(&mut self) {
        if self.drain.is_some() || self.steer.is_quiet() {
            return;
        }
        let now = Instant::now();
        let (number, anchor) = match self.grab {
            Grab::Asked(_) => return,
            Grab::Rest { not_before } if not_before.is_some_and(|at| now < at) => return,
            Grab::Lost { not_before, .. } if now < not_before => return,
            Grab::Rest { .. } => (self.request + 1, now),
            Grab::Lost { number, anchor, .. } => (number, anchor),
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

    fn ask(&mut self, number: u64, anchor: Instant, max: u32, wait: Duration, results: Vec<Pending>) {
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
        let call = async move { client.post("/v1/grab", &request, wait + CALL_TIMEOUT).await }.boxed();
        self.grab = Grab::Asked(Asked { number, anchor, started: Instant::now(), wait, results, call });
    }

    fn on_grab(&mut self, answer: Result<GrabResponse, CallError>) -> Result<(), RunError> {
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
                    self.grab = Grab::Rest { not_before: Some(self.grab_backoff.until(None)) };
                } else {
                    self.grab_backoff.reset();
                }
                self.settle(results, answer.results);
                self.take_in(answer.jobs, anchor);
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

    fn take_in(&mut self, jobs: Vec<api::GrabbedJob>, anchor: Instant) {
        let usable = self.drain.is_none() && self.leases.is_trusted(anchor);
        for grabbed in jobs {
            let lease: Lease = grabbed.lease.as_str().into();
            let stop = Stop::default();
            self.leases.hold(&lease, anchor, stop.clone());
            if usable {
                self.ready
                    .push_back(Ready { task: Task { lease, grabbed: Arc::new(grabbed), stop }, anchor });
            } else {
                self.tell(&lease, api::Outcome::Decline);
            }
        }
    }

    // ---- results

    fn flush_at(&self) -> Option<Instant> {
        let since = self.outbox.since()?;
        let at = match &self.grab {
            _ if self.drain.is_some() => since,
            // A grab that found work would have been answered by now: this one waits.
            Grab::Asked(asked) => since.max(asked.started + LINGER),
            Grab::Rest { .. } => since + LINGER,
            Grab::Lost { .. } => since,
        };
        Some(self.send_not_before.map_or(at, |not_before| at.max(not_before)))
    }

    fn begin_send(&mut self) {
        if self.send.is_some() || self.flush_at().is_none_or(|at| Instant::now() < at) {
            return;
        }
        let results = self.outbox.take();
        let request =
            ResultsRequest { results: results.iter().map(|pending| pending.item.clone()).collect() };
        let client = Arc::clone(&self.client);
        let call = async move { client.post("/v1/results", &request, CALL_TIMEOUT).await }.boxed();
        self.send = Some(Sending { results, call });
    }

    fn on_sent(&mut self, answer: Result<ResultsResponse, CallError>) {
        let Some(Sending { results, .. }) = self.send.take() else { return };
        match answer {
            Ok(answer) => self.settle(results, answer.results),
            Err(CallError::Refused(problem)) => {
                tracing::error!(results = results.len(), problem = problem.detail, "results were refused");
                self.send_not_before = Some(self.send_backoff.until(None));
                if results.len() > 1 {
                    self.give_up_over(results, Outbox::one_by_one);
                } else {
                    for pending in results {
                        self.refused(pending, &problem.detail);
                    }
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    results = results.len(),
                    "results are not answered"
                );
                self.send_not_before = Some(self.send_backoff.until(error.retry_after()));
                self.give_back(results);
            }
        }
    }

    /// Matches results with their answers.
    fn settle(&mut self, results: Vec<Pending>, answers: Vec<ResultAnswer>) {
        if results.is_empty() {
            return;
        }
        let mut open = by_lease(results);
        let mut again = Vec::new();
        for ResultAnswer { lease, answer, detail, .. } in answers {
            let Some(pending) = open.remove(&lease) else { continue };
            match answer {
                Answer::Ok | Answer::Already => {
                    self.summary.count(&pending.item.outcome);
                    self.leases.release(&lease);
                }
                Answer::Stale | Answer::Cancelled => {
                    self.summary.lost += 1;
                    self.leases.release(&lease);
                }
                Answer::Unavailable => again.push(pending),
                Answer::Refused => {
                    let detail = detail.unwrap_or_default();
                    tracing::error!(problem = detail, "a result was refused");
                    self.refused(pending, &detail);
                }
            }
        }
        again.extend(open.into_values());
        if again.is_empty() {
            self.send_backoff.reset();
            self.send_not_before = None;
        } else {
            self.send_not_before = Some(self.send_backoff.until(None));
        }
        self.give_back(again);
    }

    fn refused(&mut self, pending: Pending, why: &str) {
        let lease = pending.item.lease.clone();
        match pending.instead(why) {
            Some(instead) => self.outbox.push(instead),
            None => self.leases.release(&lease),
        }
    }

    fn give_back(&mut self, results: Vec<Pending>) {
        self.give_up_over(results, Outbox::put_back);
    }

    fn give_up_over(&mut self, results: Vec<Pending>, how: fn(&mut Outbox, Vec<Pending>) -> Vec<String>) {
        for lease in how(&mut self.outbox, results) {
            tracing::warn!("a result is given up: its lease is over and no dispatcher took it");
            self.summary.unsent += 1;
            self.leases.release(&lease);
        }
    }

    // ---- shutdown

    /// Stops grabbing and gives back what was not started.
    fn begin_drain(&mut self) {
        let stop_at = Instant::now() + self.settings.drain;
        let drop_at = stop_at + STOP_GRACE;
        let leave_at = drop_at + FLUSH_GRACE;
        self.drain = Some(Drain { stop_at, drop_at, leave_at, dropped: false, releases: 3 });
        tracing::info!(running = self.running_jobs, unstarted = self.ready.len(), "draining");
        while let Some(Ready { task, .. }) = self.ready.pop_front() {
            self.tell(&task.lease, api::Outcome::Decline);
        }
        self.release_again();
    }

    /// A grab that is under way or lost may hold jobs: hang up, ask for its answer again, and decline what comes.
    fn release_again(&mut self) {
        if self.drain.is_none() {
            return;
        }
        let (number, anchor) = match std::mem::replace(&mut self.grab, Grab::Rest { not_before: None }) {
            Grab::Rest { .. } => return,
            Grab::Asked(Asked { number, anchor, results, .. }) => {
                self.give_back(results);
                (number, anchor)
            }
            Grab::Lost { number, anchor, .. } => (number, anchor),
        };
        let Some(drain) = &mut self.drain else { return };
        if drain.releases > 0 {
            drain.releases -= 1;
            self.ask(number, anchor, 1, Duration::ZERO, Vec::new());
        }
    }

    fn is_drained(&mut self) -> bool {
        let Some(drain) = &mut self.drain else { return false };
        let now = Instant::now();
        if now >= drain.stop_at {
            self.leases.stop_all(StopReason::Shutdown);
        }
        if now >= drain.drop_at && !drain.dropped {
            drain.dropped = true;
            self.running.abort_all();
        }
        let settled = self.running.is_empty()
            && self.outbox.is_empty()
            && self.send.is_none()
            && matches!(self.grab, Grab::Rest { .. });
        settled || now >= drain.leave_at
    }

    fn next_deadline(&self) -> Instant {
        let now = Instant::now();
        let grab = match &self.grab {
            Grab::Rest { not_before } => *not_before,
            Grab::Lost { not_before, .. } => Some(*not_before),
            Grab::Asked(_) => None,
        };
        let flush = if self.send.is_none() { self.flush_at() } else { None };
        let overdue = self.ready.front().map(|ready| self.overdue_at(ready));
        let drain = self.drain.as_ref().map(|drain| {
            [drain.stop_at, drain.drop_at, drain.leave_at].into_iter().find(|at| *at > now).unwrap_or(now)
        });
        let far = now + Duration::from_secs(3600);
        [grab.filter(|at| *at > now), flush, overdue, drain].into_iter().flatten().min().unwrap_or(far)
    }
}

async fn grabbed(grab: &mut Grab) -> Result<GrabResponse, CallError> {
    match grab {
        Grab::Asked(asked) => (&mut asked.call).await,
        Grab::Rest { .. } | Grab::Lost { .. } => std::future::pending().await,
    }
}

async fn sent(send: &mut Option<Sending>) -> Result<ResultsResponse, CallError> {
    match send {
        Some(send) => (&mut send.call).await,
        None => std::future::pending().await,
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
