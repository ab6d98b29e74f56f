//! How soon a database is looked at again.

use std::time::Duration;

use rand::Rng;
use tokio::time::Instant;

/// The wait grows with the time since the last event: an eighth of it. So a stream of events with any distance between
/// them is late by an eighth of that at most, and an event costs at most some forty looks however long nothing follows.
const SHARE: u32 = 8;

/// Traffic of one database, and the waits that follow from it.
#[derive(Debug)]
pub(crate) struct Pace {
    min: Duration,
    max: Duration,
    last_event: Option<Instant>,
}

impl Pace {
    /// Waits from `min` to `max`.
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, last_event: None }
    }

    /// There was an event now.
    pub(crate) fn event(&mut self) {
        self.last_event = Some(Instant::now());
    }

    /// There was an event a moment ago: another one may well be there.
    pub(crate) fn is_busy(&self) -> bool {
        self.last_event.is_some_and(|last| last.elapsed() < self.max)
    }

    /// Until the next look, without jitter.
    pub(crate) fn wait(&self) -> Duration {
        let since = self.last_event.map_or(self.max, |last| last.elapsed() / SHARE);
        since.clamp(self.min, self.max)
    }

    /// Whether waits are long enough to sleep instead until a transaction ends, which is noticed a little later.
    pub(crate) fn may_sleep(&self) -> bool {
        self.wait() * 2 >= self.max
    }

    /// The shortest wait.
    pub(crate) fn shortest(&self) -> Duration {
        self.min
    }

    /// The longest wait.
    pub(crate) fn longest(&self) -> Duration {
        self.max
    }
}

/// Up to a quarter less, so that many databases are not looked at at the same moment.
pub(crate) fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(rand::rng().random_range(0.75..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_are_a_share_of_the_silence() {
        let ms = Duration::from_millis;
        let mut pace = Pace::new(ms(5), ms(200));
        assert_eq!(pace.wait(), ms(200));
        assert!(pace.may_sleep() && !pace.is_busy());
        pace.event();
        assert_eq!(pace.wait(), ms(5));
        assert!(pace.is_busy() && !pace.may_sleep());
        tokio::time::advance(ms(80)).await;
        assert_eq!(pace.wait(), ms(10));
        tokio::time::advance(ms(720)).await;
        assert_eq!(pace.wait(), ms(100));
        assert!(pace.may_sleep());
        tokio::time::advance(ms(60_000)).await;
        assert_eq!(pace.wait(), ms(200));
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_costs_a_bounded_number_of_looks() {
        let mut pace = Pace::new(Duration::from_millis(5), Duration::from_millis(200));
        pace.event();
        let mut looks = 0;
        while pace.wait() < pace.longest() {
            tokio::time::advance(pace.wait()).await;
            looks += 1;
        }
        assert!(looks <= 40, "{looks}");
    }
}
