//! How long the calls of a session may take.

use std::time::Duration;

/// One deadline for all calls, and maybe another one for those of one name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    all: Duration,
    slow: Option<(&'static str, Duration)>,
}

impl Deadlines {
    pub(super) fn new(all: Duration) -> Self {
        Self { all, slow: None }
    }

    pub(super) fn allow(&mut self, op: &'static str, deadline: Duration) {
        self.slow = Some((op, deadline));
    }

    /// Of calls without a deadline of their own.
    pub(super) fn usual(&self) -> Duration {
        self.all
    }

    pub(super) fn of(&self, op: &str) -> Duration {
        self.slow.filter(|(slow, _)| *slow == op).map_or(self.all, |(_, deadline)| deadline)
    }

    /// The server's own limit, in milliseconds: a little later than any of ours, which therefore reports first.
    pub(super) fn on_the_server(&self) -> u128 {
        let longest = self.slow.map_or(self.all, |(_, deadline)| deadline.max(self.all));
        longest.as_millis().saturating_add(1000).min(2_000_000_000)
    }
}
