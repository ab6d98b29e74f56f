//! Trust: how long an owner may believe that it still is one.

use std::time::Duration;

use tokio::time::Instant;

/// The term, counted from before it was asked for, less a margin for clocks that run at different speeds: it ends here
/// before it ends in the database.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trust {
    term: Duration,
    until: Instant,
    renewed: Instant,
}

impl Trust {
    /// A term that was asked for at `asked`.
    pub(super) fn new(term: Duration, asked: Instant) -> Self {
        Self { term, until: asked + term - term / 10, renewed: asked }
    }

    pub(super) fn renewed(&mut self, asked: Instant) {
        *self = Self::new(self.term, asked);
    }

    pub(super) fn has_ended(&self) -> bool {
        Instant::now() >= self.until
    }

    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// When to ask for the next term: twice before this one ends.
    pub(super) fn renew_at(&self) -> Instant {
        self.renewed + self.term / 3
    }
}
