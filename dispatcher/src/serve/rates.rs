//! Rates: jobs per second over the last minute, from the engine's tally once or twice a second.

use std::collections::VecDeque;
use std::time::Duration;

use tidemill_common::api::Rates;
use tokio::time::Instant;

use crate::engine::Tally;

/// What rates are counted over.
const SPAN: Duration = Duration::from_secs(60);
/// A sample is taken when the one before is so old.
const STEP: Duration = Duration::from_secs(1);

/// The tally of one owner, as it was during the last minute.
#[derive(Debug)]
pub(super) struct Rate {
    since: Instant,
    /// At most two for each step, the oldest first; the first is as old as the span, or older, once there is one.
    samples: VecDeque<(Instant, Tally)>,
    /// When something was counted last, and the tally then.
    last: (Instant, Tally),
}

impl Rate {
    /// Nothing was counted yet.
    pub(super) fn new(now: Instant) -> Self {
        let start = (now, Tally::default());
        Self { since: now, samples: VecDeque::from([start]), last: start }
    }

    /// The tally is this now: to be called whenever it may have changed.
    pub(super) fn note(&mut self, now: Instant, tally: Tally) {
        if self.samples.back().is_none_or(|(at, _)| now.duration_since(*at) >= STEP) {
            self.samples.push_back(self.last);
            while self.samples.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= SPAN) {
                self.samples.pop_front();
            }
        }
        self.last = (now, tally);
    }

    /// Per second, over the last minute, or as long as the queue is owned.
    pub(super) fn now(&mut self, now: Instant, tally: Tally) -> Rates {
        self.note(now, tally);
        let before = self.samples.front().map_or_else(Tally::default, |(_, tally)| *tally);
        let seconds = now.duration_since(self.since).clamp(STEP, SPAN).as_secs_f64();
        let rate = |now: u64, before: u64| (now - before) as f64 / seconds;
        Rates {
            loaded: rate(tally.loaded, before.loaded),
            leased: rate(tally.leased, before.leased),
            completed: rate(tally.completed, before.completed),
            failed: rate(tally.failed, before.failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(loaded: u64) -> Tally {
        Tally { loaded, leased: 2 * loaded, completed: 3 * loaded, failed: 4 * loaded }
    }

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn a_young_owner_divides_by_its_age_and_an_old_one_by_a_minute() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        assert_eq!(rate.now(start, tally(5)).loaded, 5.0, "at least a second");
        let rates = rate.now(at(start, 10_000), tally(20));
        assert_eq!((rates.loaded, rates.leased, rates.completed, rates.failed), (2.0, 4.0, 6.0, 8.0));
        // 100 a second for five minutes.
        for step in 1..=3_000 {
            rate.note(at(start, 10_000 + 100 * step), tally(20 + 10 * step));
        }
        let loaded = rate.now(at(start, 310_000), tally(30_020)).loaded;
        assert!((99.0..=102.0).contains(&loaded), "{loaded}");
        assert!(rate.samples.len() <= 122, "{}", rate.samples.len());
    }

    #[test]
    fn a_burst_is_forgotten_after_a_minute_also_if_nothing_happens_after_it() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        rate.note(at(start, 100_000), tally(10));
        // Too early for a sample of its own.
        rate.note(at(start, 100_500), tally(610));
        assert_eq!(rate.now(at(start, 100_600), tally(610)).loaded, 610.0 / 60.0);
        assert_eq!(rate.now(at(start, 160_000), tally(610)).loaded, 600.0 / 60.0);
        assert_eq!(rate.now(at(start, 160_600), tally(610)).loaded, 0.0);
        // A longer rest, nobody asking.
        rate.note(at(start, 161_000), tally(1_210));
        assert_eq!(rate.now(at(start, 500_000), tally(1_210)).loaded, 0.0);
        assert_eq!(rate.now(at(start, 500_001), tally(1_270)).loaded, 1.0);
    }
}
