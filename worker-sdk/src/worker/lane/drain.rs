//! Shutting down.

use std::time::Duration;

use tidemill_common::api::{self, GrabResponse};
use tokio::time::Instant;

use super::grab::{Asked, Grab, GrabCall};
use super::{Lane, Ready};
use crate::client::CallError;
use crate::job::StopReason;

/// After the drain budget: time for handlers to heed the request to stop, and to send the last results.
const STOP_GRACE: Duration = Duration::from_secs(1);
const FLUSH_GRACE: Duration = Duration::from_secs(3);
/// How long a grab that waits may take to end after it was asked again.
const NUDGE_PATIENCE: Duration = Duration::from_secs(2);

/// Shutting down: when patience with the handlers ends.
pub(super) struct Drain {
    pub(super) stop_at: Instant,
    pub(super) drop_at: Instant,
    pub(super) leave_at: Instant,
    pub(super) dropped: bool,
    /// Tries left to find out about a grab whose answer was lost.
    pub(super) releases: u8,
    /// Ends the grab that waits.
    pub(super) nudge: Option<GrabCall>,
    /// When the grab that was nudged is given up.
    pub(super) hang_up_at: Option<Instant>,
}

impl Lane {
    /// Stops grabbing and gives back what was not started.
    pub(super) fn begin_drain(&mut self) {
        let stop_at = Instant::now() + self.settings.drain;
        let drop_at = stop_at + STOP_GRACE;
        let leave_at = drop_at + FLUSH_GRACE;
        self.drain = Some(Drain {
            stop_at,
            drop_at,
            leave_at,
            dropped: false,
            releases: 3,
            nudge: None,
            hang_up_at: None,
        });
        tracing::info!(running = self.running_jobs, unstarted = self.ready.len(), "draining");
        while let Some(Ready { task, .. }) = self.ready.pop_front() {
            self.tell(&task.lease, api::Outcome::Decline);
        }
        self.nudge();
        self.release_again();
    }

    /// A grab that waits is not hung up on: its answer may be on the way, with jobs. Asked again under its number, the
    /// dispatcher answers both, and what comes is declined.
    fn nudge(&mut self) {
        let Grab::Asked(asked) = &self.grab else { return };
        let call = self.call(asked.number, 1, Duration::ZERO, &[]);
        if let Some(drain) = &mut self.drain {
            drain.nudge = Some(call);
            drain.hang_up_at = Some(Instant::now() + NUDGE_PATIENCE);
        }
    }

    pub(super) fn on_nudged(&mut self, answer: Result<GrabResponse, CallError>) {
        if let Some(drain) = &mut self.drain {
            drain.nudge = None;
        }
        match answer {
            Ok(answer) => self.take_in(answer.jobs, Instant::now(), Instant::now(), false),
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::debug!(error, "a waiting grab could not be ended");
            }
        }
    }

    /// A grab whose answer was lost may hold jobs: ask for its answer again.
    pub(super) fn release_again(&mut self) {
        let Some(drain) = &mut self.drain else { return };
        let Grab::Lost { number, anchor, .. } = self.grab else { return };
        self.grab = Grab::Rest { not_before: None };
        if drain.releases > 0 {
            drain.releases -= 1;
            self.ask(number, Some(anchor), 1, Duration::ZERO, Vec::new());
        }
    }

    fn hang_up(&mut self) {
        let overdue =
            self.drain.as_ref().is_some_and(|d| d.hang_up_at.is_some_and(|at| Instant::now() >= at));
        if !overdue {
            return;
        }
        if let Some(drain) = &mut self.drain {
            drain.nudge = None;
            drain.hang_up_at = None;
        }
        if let Grab::Asked(Asked { results, .. }) =
            std::mem::replace(&mut self.grab, Grab::Rest { not_before: None })
        {
            self.give_back(results);
        }
    }

    pub(super) fn is_drained(&mut self) -> bool {
        self.hang_up();
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
            && drain.nudge.is_none()
            && matches!(self.grab, Grab::Rest { .. });
        settled || now >= drain.leave_at
    }
}

pub(super) async fn nudged(drain: &mut Option<Drain>) -> Result<GrabResponse, CallError> {
    match drain.as_mut().and_then(|drain| drain.nudge.as_mut()) {
        Some(call) => call.await,
        None => std::future::pending().await,
    }
}
