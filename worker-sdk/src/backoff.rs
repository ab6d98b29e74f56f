//! Jittered waits between attempts.

use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

/// Waits that double from `base` to `cap`, each one a random time between half of that and all of it, so that many
/// workers do not come back at the same moment.
#[derive(Debug)]
pub(crate) struct Backoff {
    base: Duration,
    cap: Duration,
    bound: Duration,
}

impl Backoff {
    pub(crate) fn new(base: Duration, cap: Duration) -> Backoff {
        Backoff { base, cap, bound: base }
    }

    /// The next wait.
    pub(crate) fn delay(&mut self) -> Duration {
        let bound = self.bound.min(self.cap);
        self.bound = (bound * 2).min(self.cap);
        bound.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// When the next attempt may be made, but not before `at_least` from now.
    pub(crate) fn until(&mut self, at_least: Option<Duration>) -> Instant {
        Instant::now() + self.delay().max(at_least.unwrap_or_default())
    }

    /// It worked: begin again with the shortest wait.
    pub(crate) fn reset(&mut self) {
        self.bound = self.base;
    }
}
