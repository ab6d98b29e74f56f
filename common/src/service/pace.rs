//! How long a loop waits when nothing is due, and after a failure.

use std::time::Duration;

use rand::Rng;

/// First and longest wait after a failed pass.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Wait after an error of class `Stop`: a person must act, which takes minutes.
const STOPPED: Duration = Duration::from_secs(30);

/// Idle waits grow from `min` to `max`, both jittered by up to a quarter; a pass that worked starts again at
/// `min`. `gap` is the shortest time from the beginning of one pass to the beginning of the next, also
/// between full passes; `woken_gap` is the same after a wake-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Wait after the first pass that found nothing.
    pub min: Duration,
    /// Longest wait.
    pub max: Duration,
    /// Shortest time between the beginnings of two passes; zero by default.
    pub gap: Duration,
    /// The same if the second one was woken; as `gap`, unless told otherwise.
    pub woken_gap: Duration,
}

impl Pace {
    /// Waits from `min` to `max`.
    #[must_use]
    pub const fn between(min: Duration, max: Duration) -> Self {
        Self { min, max, gap: Duration::ZERO, woken_gap: Duration::ZERO }
    }

    /// Waits from `min_ms` to `max_ms` milliseconds.
    #[must_use]
    pub const fn between_ms(min_ms: u64, max_ms: u64) -> Self {
        Self::between(Duration::from_millis(min_ms), Duration::from_millis(max_ms))
    }

    /// Always the same wait.
    #[must_use]
    pub const fn every(wait: Duration) -> Self {
        Self::between(wait, wait)
    }

    /// No pass begins sooner than this after the one before began.
    #[must_use]
    pub const fn with_gap(mut self, gap: Duration) -> Self {
        (self.gap, self.woken_gap) = (gap, gap);
        self
    }

    /// After a wake-up so much is enough.
    #[must_use]
    pub const fn with_woken_gap(mut self, gap: Duration) -> Self {
        self.woken_gap = gap;
        self
    }
}

/// The waits of one loop: pure but for the jitter.
#[derive(Debug)]
pub(super) struct Waits {
    pace: Pace,
    idle: u32,
    failures: u32,
}

impl Waits {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, idle: 0, failures: 0 }
    }

    pub(super) fn gap(&self) -> Duration {
        self.pace.gap
    }

    pub(super) fn woken_gap(&self) -> Duration {
        self.pace.woken_gap
    }

    pub(super) fn worked(&mut self) {
        (self.idle, self.failures) = (0, 0);
    }

    /// The wait after a pass that found nothing.
    pub(super) fn idle(&mut self) -> Duration {
        let wait = doubled(self.pace.min, self.idle).min(self.pace.max);
        self.idle = self.idle.saturating_add(1);
        self.failures = 0;
        jittered(wait)
    }

    /// After a pass that found nothing and said itself how long to wait.
    pub(super) fn rested(&mut self) {
        self.failures = 0;
    }

    /// The wait after a failed pass.
    pub(super) fn failed(&mut self) -> Duration {
        let wait = doubled(BACKOFF_MIN, self.failures).min(BACKOFF_MAX);
        self.failures = self.failures.saturating_add(1);
        // Anywhere between half and all of it, so that many replicas do not come back together.
        wait.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// The wait after an error that a person must mend.
    pub(super) fn stopped(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        jittered(STOPPED)
    }
}

fn doubled(base: Duration, times: u32) -> Duration {
    base.saturating_mul(1 << times.min(20))
}

/// Up to a quarter less, so that many loops do not look at the same moment.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::rng().random_range(0.75..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(wait: Duration, least: f64, most: Duration) {
        assert!(
            wait <= most && wait >= most.mul_f64(least),
            "{wait:?} is not within {least} and 1 of {most:?}"
        );
    }

    #[test]
    fn idle_waits_double_up_to_the_longest_and_begin_again_after_work() {
        let mut waits = Waits::new(Pace::between_ms(5, 30));
        for most in [5, 10, 20, 30, 30] {
            within(waits.idle(), 0.75, Duration::from_millis(most));
        }
        waits.worked();
        within(waits.idle(), 0.75, Duration::from_millis(5));
    }

    #[test]
    fn back_off_doubles_up_to_ten_seconds_and_never_overflows() {
        let mut waits = Waits::new(Pace::between_ms(5, 30));
        for most in [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000] {
            within(waits.failed(), 0.5, Duration::from_millis(most));
        }
        (0..100).for_each(|_| within(waits.failed(), 0.5, BACKOFF_MAX));
        waits.worked();
        within(waits.failed(), 0.5, Duration::from_millis(100));
        within(waits.stopped(), 0.75, STOPPED);
    }
}
