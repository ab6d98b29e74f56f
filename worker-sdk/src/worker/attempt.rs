//! The time of an attempt. A job with a timeout is asked to stop, and a little later dropped, while its lease still lives
//! long enough for its failure to be heard.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::job::{Stop, StopReason};
use crate::outcome::Failure;

/// At least and at most so much of a timeout is kept for the failure to be told.
const MARGIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));

/// How long an attempt may take, and since when. The dispatcher counts from the grab's commit, which is not known here:
/// it is after the request's start and before its answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttemptTime {
    since: Instant,
    limit: Duration,
}

impl AttemptTime {
    pub(crate) fn new(timeout_ms: u64, since: Instant) -> AttemptTime {
        AttemptTime { since, limit: Duration::from_millis(timeout_ms) }
    }

    /// A tenth of it within [`MARGIN`], but no more than a quarter: kept twice, for the handler to stop by itself and for
    /// its failure to be told.
    pub(crate) fn margin(self) -> Duration {
        (self.limit / 10).clamp(MARGIN.0, MARGIN.1).min(self.limit / 4)
    }

    /// Later than this it is not begun: a quarter of its time is over.
    pub(crate) fn begin_by(self) -> Instant {
        self.since + self.limit / 4
    }

    /// When the handler is asked to stop.
    pub(crate) fn ask_at(self) -> Instant {
        self.drop_at() - self.margin()
    }

    /// When the handler is dropped.
    pub(crate) fn drop_at(self) -> Instant {
        self.since + self.limit - self.margin()
    }

    /// Carries something out, asks it to stop in time, and drops it a little later: `None`.
    pub(crate) async fn within<T>(self, stop: &Stop, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        if let Ok(done) = timeout_at(self.ask_at(), &mut work).await {
            return Some(done);
        }
        stop.request(StopReason::TimedOut);
        timeout_at(self.drop_at(), work).await.ok()
    }

    /// What is told of an attempt that did not end in its time.
    pub(crate) fn failure(self) -> Failure {
        Failure::temporary(format_args!("timed out after {} ms", self.limit.as_millis()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_before_the_lease_does() {
        let since = Instant::now();
        let at = |timeout_ms| {
            let time = AttemptTime::new(timeout_ms, since);
            [time.begin_by(), time.ask_at(), time.drop_at()].map(|at| (at - since).as_millis())
        };
        assert_eq!(at(1), [0, 0, 0]);
        assert_eq!(at(200), [50, 100, 150]);
        assert_eq!(at(1_000), [250, 800, 900]);
        assert_eq!(at(10_000), [2_500, 8_000, 9_000]);
        assert_eq!(at(3_600_000), [900_000, 3_594_000, 3_597_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_heeds_the_stop_has_its_say() {
        let (time, stop) = (AttemptTime::new(1_000, Instant::now()), Stop::default());
        assert_eq!(time.within(&stop, stop.requested()).await, Some(StopReason::TimedOut));
        assert_eq!(Instant::now(), time.ask_at());
        assert_eq!(time.within(&stop, std::future::pending::<()>()).await, None);
        assert_eq!(Instant::now(), time.drop_at());
        assert_eq!(time.failure().message(), "timed out after 1000 ms");
    }
}
