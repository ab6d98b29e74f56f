//! Work that has its time, for another step.

use std::time::Duration;

use tidemill_common::service::Wake;
use tokio::time::Instant;

/// Wakes another step when its time has come, and as long as it still is, again after waits that double: the work may
/// be impossible for now, such as a rotation that a consumer holds up.
#[derive(Debug)]
pub(crate) struct Errand {
    wake: Wake,
    first: Duration,
    longest: Duration,
    asked: Option<(Instant, Duration)>,
}

impl Errand {
    pub(crate) fn new(wake: Wake, first: Duration, longest: Duration) -> Self {
        Self { wake, first, longest, asked: None }
    }

    /// Whether the step should be woken now.
    pub(crate) fn is_due(&self, due_in: Option<Duration>) -> bool {
        due_in.is_some_and(|due_in| due_in.is_zero())
            && self.asked.is_none_or(|(asked, wait)| asked.elapsed() >= wait)
    }

    /// Wakes the step.
    pub(crate) fn ask(&mut self) {
        let wait = self.asked.map_or(self.first, |(_, wait)| (wait * 2).min(self.longest));
        self.asked = Some((Instant::now(), wait));
        self.wake.wake();
    }

    /// How long until the next look for it.
    pub(crate) fn next(&mut self, due_in: Option<Duration>) -> Option<Duration> {
        match due_in {
            Some(due_in) if due_in.is_zero() => {
                let left = self.asked.map(|(asked, wait)| wait.saturating_sub(asked.elapsed()));
                Some(left.unwrap_or_default())
            }
            _ => {
                self.asked = None;
                due_in
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_stays_due_is_asked_for_less_and_less_often() {
        let ms = Duration::from_millis;
        let mut errand = Errand::new(Wake::new(), ms(20), ms(50));
        assert!(!errand.is_due(None) && !errand.is_due(Some(ms(1))));
        assert_eq!(errand.next(Some(ms(7))), Some(ms(7)));
        let due = Some(Duration::ZERO);
        for wait in [20, 40, 50, 50] {
            assert!(errand.is_due(due));
            errand.ask();
            assert!(!errand.is_due(due));
            assert_eq!(errand.next(due), Some(ms(wait)));
            tokio::time::advance(ms(wait)).await;
        }
        // It was done: the next one is asked for at once.
        assert_eq!(errand.next(None), None);
        assert!(errand.is_due(due));
    }
}
