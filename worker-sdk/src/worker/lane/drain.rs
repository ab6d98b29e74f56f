//! Shutting down.

use std::time::Duration;

use tidemill_common::api;
use tokio::time::Instant;

use super::grab::{Asked, Grab};
use super::{Lane, Ready};
use crate::job::StopReason;

/// After the drain budget: time for handlers to heed the request to stop, and to send the last results.
const STOP_GRACE: Duration = Duration::from_secs(1);
const FLUSH_GRACE: Duration = Duration::from_secs(3);

/// Shutting down: when patience with the handlers ends.
pub(super) struct Drain {
    pub(super) stop_at: Instant,
    pub(super) drop_at: Instant,
    pub(super) leave_at: Instant,
    pub(super) dropped: bool,
    /// Tries left to find out about a grab that was given up.
    pub(super) releases: u8,
}

impl Lane {
    /// Stops grabbing and gives back what was not started.
    pub(super) fn begin_drain(&mut self) {
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
    pub(super) fn release_again(&mut self) {
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

    pub(super) fn is_drained(&mut self) -> bool {
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
}
