//! The database's clock as this process can know it: never ahead of it.

use tokio::time::Instant;

use crate::engine::Micros;

/// Database time, from the last time the database told it. What elapsed since then is counted from the moment the
/// answer was here, so the estimate is never later than the database's own clock, and no lease ends early.
#[derive(Debug, Clone, Copy)]
pub(super) struct DatabaseClock {
    told: Micros,
    heard: Instant,
}

impl DatabaseClock {
    pub(super) fn new(told: Micros) -> Self {
        Self { told, heard: Instant::now() }
    }

    pub(super) fn now(&self) -> Micros {
        let elapsed = i64::try_from(self.heard.elapsed().as_micros()).unwrap_or(i64::MAX);
        Micros(self.told.0.saturating_add(elapsed))
    }

    /// When this clock will show `at`.
    pub(super) fn instant(&self, at: Micros) -> Instant {
        let ahead = u64::try_from(at.0.saturating_sub(self.told.0)).unwrap_or(0);
        // A day ahead is as good as for ever: everything that happens looks again.
        self.heard + std::time::Duration::from_micros(ahead.min(86_400_000_000))
    }
}
