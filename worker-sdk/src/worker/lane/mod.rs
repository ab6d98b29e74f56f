//! A lane: one fetch loop and the jobs it has on hand.
//!
//! One task owns everything: jobs that wait, jobs that run, results that are not answered, at most one grab and one
//! results call under way. Results travel with the next grab; those that finish while a grab waits for work are sent by
//! themselves.

mod carry;
mod drain;
mod grab;
mod tell;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tidemill_common::api::WorkerInfo;
use tidemill_common::id::QueueName;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::RunError;
use super::execute::{Execute, Task};
use super::leases::{Lease, Leases};
use super::outbox::Outbox;
use super::steer::Steer;
use super::summary::Summary;
use crate::backoff::Backoff;
use crate::client::Client;
use carry::Carried;
use drain::{Drain, nudged};
use grab::{Grab, grabbed};
use tell::{Sending, sent};

/// How long a call without waiting may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// What a lane is asked to do.
#[derive(Debug, Clone)]
pub(crate) struct LaneSettings {
    pub(crate) queues: Vec<QueueName>,
    pub(crate) types: Option<Vec<String>>,
    pub(crate) transactional: bool,
    /// Calls of handlers at the same time.
    pub(crate) concurrency: usize,
    /// How many times that to keep on hand, at most.
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
    /// One of them may have a timeout: then the oldest is not the first to be overdue.
    timed: bool,
    running: JoinSet<Carried>,
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
    /// It could not be started as soon as it came.
    waited: bool,
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
            timed: false,
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
                biased;
                () = steer.stopping(), if self.drain.is_none() => {}
                // An error would mean that the sender is gone, and we hold it.
                Ok(()) = quiet.changed() => {}
                answer = grabbed(&mut self.grab) => self.on_grab(answer)?,
                answer = nudged(&mut self.drain) => self.on_nudged(answer),
                answer = sent(&mut self.send) => self.on_sent(answer),
                Some(ended) = self.running.join_next_with_id() => {
                    self.on_ended(ended);
                    // All that have ended by now: one look around for many.
                    while let Some(ended) = self.running.try_join_next_with_id() {
                        self.on_ended(ended);
                    }
                }
                // Quick ones make way for a grab: that is on its way now.
                () = std::future::ready(()), if self.may_start() => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    fn next_deadline(&self) -> Instant {
        let now = Instant::now();
        let grab = match &self.grab {
            Grab::Rest { not_before } => *not_before,
            Grab::Lost { not_before, .. } => Some(*not_before),
            Grab::Asked(_) => None,
        };
        let flush = if self.send.is_none() { self.flush_at() } else { None };
        let waiting = if self.timed { self.ready.len() } else { 1 };
        let overdue = self.ready.iter().take(waiting).map(|ready| self.overdue_at(ready)).min();
        let drain = self.drain.as_ref().map(|drain| {
            let steps = [drain.stop_at, drain.drop_at, drain.leave_at].into_iter().chain(drain.hang_up_at);
            steps.filter(|at| *at > now).min().unwrap_or(now)
        });
        let far = now + Duration::from_secs(3600);
        [grab.filter(|at| *at > now), flush, overdue, drain].into_iter().flatten().min().unwrap_or(far)
    }
}
