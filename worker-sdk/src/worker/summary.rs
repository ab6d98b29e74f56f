//! What a worker did.

use tidemill_common::api::Outcome;

/// Counted from start to end of a worker. A job counts when its fate is committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Completed or replaced.
    pub succeeded: u64,
    /// Failed, for now or for good.
    pub failed: u64,
    /// Given back.
    pub declined: u64,
    /// The lease was lost before the result counted.
    pub lost: u64,
    /// Results that no dispatcher took.
    pub unsent: u64,
}

impl Summary {
    pub(crate) fn count(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Complete { .. } | Outcome::Replace { .. } => self.succeeded += 1,
            Outcome::TempFail { .. } | Outcome::PermFail { .. } => self.failed += 1,
            Outcome::Decline => self.declined += 1,
        }
    }

    pub(crate) fn add(&mut self, other: Summary) {
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.declined += other.declined;
        self.lost += other.lost;
        self.unsent += other.unsent;
    }
}
