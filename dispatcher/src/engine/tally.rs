//! Tally: how many jobs went through since this owner began. Counted by flushes and by pieces of the log, never job by
//! job.

use super::Engine;
use super::finished::Finished;
use super::flush::Unit;
use super::record::{Record, Resolution};

/// Numbers that only rise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Entries read from the log: jobs, and jobs that were put there again.
    pub loaded: u64,
    pub leased: u64,
    /// Replaced jobs, too.
    pub completed: u64,
    /// Attempts, also those whose lease ended without a result.
    pub failed: u64,
}

impl Tally {
    /// What a unit says happened, once it is committed.
    pub(super) fn count(&mut self, unit: &Unit) {
        for record in &unit.records {
            match record {
                Record::Leased { entries, .. } => self.leased += entries.len() as u64,
                Record::Resolved { how: Resolution::Completed | Resolution::Replaced, entries } => {
                    self.completed += entries.len() as u64;
                }
                Record::Resolved {
                    how:
                        Resolution::Failed
                        | Resolution::Exhausted
                        | Resolution::Retried
                        | Resolution::Lent
                        | Resolution::Parked
                        | Resolution::Cancelled,
                    ..
                }
                | Record::Extended { .. }
                | Record::Released { .. } => {}
            }
        }
        self.failed += unit.cold.fail.len() as u64;
    }

    /// A result that the waiting room took.
    pub(super) fn count_finished(&mut self, how: Finished) {
        match how {
            Finished::Resolved(Resolution::Completed | Resolution::Replaced) => self.completed += 1,
            Finished::Resolved(Resolution::Failed | Resolution::Exhausted | Resolution::Retried) => {
                self.failed += 1;
            }
            Finished::Resolved(Resolution::Lent | Resolution::Parked | Resolution::Cancelled)
            | Finished::Released => {}
        }
    }
}

impl Engine {
    /// How much went through. What happens in the waiting room without this owner is not in it: a worker's own
    /// transaction that completes a job, and a lease that ends there.
    #[must_use]
    pub fn tally(&self) -> Tally {
        Tally { loaded: self.window.loaded(), ..self.tally }
    }
}
