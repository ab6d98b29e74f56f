//! The leases a lane holds, and how long each can be trusted.
//!
//! Clocks of different machines are never compared: a lease granted or extended by a request is trusted from the
//! *start* of that request, on this machine's monotonic clock, for the lease's length less a margin.

use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::attempt::AttemptTime;
use crate::job::{Stop, StopReason};
use crate::progress::Reports;

/// A lease's token, shared by all that speak about it.
pub(crate) type Lease = Arc<str>;

/// By token. Two lookups a job: the standard hasher would be noticed.
type Map<V> = std::collections::HashMap<Lease, V, foldhash::fast::RandomState>;

/// All leases of one lane.
#[derive(Debug)]
pub(crate) struct Leases {
    length: Duration,
    held: Mutex<Map<Held>>,
}

#[derive(Debug)]
struct Held {
    /// The start of the request that granted or last extended it.
    anchor: Instant,
    stop: Stop,
    reports: Reports,
    time: Option<AttemptTime>,
    /// Drops the handler, if it can be dropped on its own.
    abort: Option<AbortHandle>,
    /// When a handler that was asked to stop is dropped.
    drop_at: Option<Instant>,
}

impl Leases {
    /// For leases of this length.
    pub(crate) fn new(length: Duration) -> Leases {
        Leases { length, held: Mutex::default() }
    }

    /// How long a lease is.
    pub(crate) fn length(&self) -> Duration {
        self.length
    }

    /// The last tenth of a lease is not used: a handler that is asked to stop then still has time to do so.
    pub(crate) fn margin(&self) -> Duration {
        self.length / 10
    }

    fn trusted_until(&self, anchor: Instant) -> Instant {
        anchor + self.length - self.margin()
    }

    /// Can a lease granted by a request that started at `anchor` still be used?
    pub(crate) fn is_trusted(&self, anchor: Instant) -> bool {
        Instant::now() < self.trusted_until(anchor)
    }

    /// Begins to hold a lease. False if it is held already.
    pub(crate) fn hold(
        &self,
        lease: &Lease,
        anchor: Instant,
        (stop, reports): (Stop, Reports),
        time: Option<AttemptTime>,
    ) -> bool {
        let held = Held { anchor, stop, reports, time, abort: None, drop_at: None };
        match self.lock().entry(Arc::clone(lease)) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(held);
                true
            }
        }
    }

    /// The handler of this lease may be dropped by this when the lease is lost.
    pub(crate) fn droppable(&self, lease: &str, abort: AbortHandle) {
        if let Some(held) = self.lock().get_mut(lease) {
            held.abort = Some(abort);
        }
    }

    /// The lease is settled.
    pub(crate) fn release(&self, lease: &str) {
        self.lock().remove(lease);
    }

    /// Asks every handler to stop.
    pub(crate) fn stop_all(&self, reason: StopReason) {
        for held in self.lock().values() {
            held.stop.request(reason);
        }
    }

    /// The leases that a heartbeat should extend now, and what their handlers report: a third of their length is over,
    /// or nearly; or a tenth of it, and there is a report that the dispatcher does not have.
    pub(crate) fn due(&self, now: Instant) -> Vec<(Lease, Reports)> {
        let held = self.lock();
        let age = |held: &Held| now.saturating_duration_since(held.anchor);
        let live = |held: &&Held| held.drop_at.is_none();
        let is_due = |held: &Held| {
            age(held) >= self.length / 3
                || (held.reports.waits() && (age(held) >= self.length / 10 || held.reports.hurries()))
        };
        if !held.values().filter(live).any(is_due) {
            return Vec::new();
        }
        // One call takes along what would be due soon.
        held.iter()
            .filter(|(_, held)| live(held) && (age(held) >= self.length / 4 || is_due(held)))
            .map(|(lease, held)| (Arc::clone(lease), held.reports.clone()))
            .collect()
    }

    /// A request that started at `anchor` has extended this lease.
    pub(crate) fn extended(&self, lease: &str, anchor: Instant) {
        if let Some(held) = self.lock().get_mut(lease) {
            held.anchor = held.anchor.max(anchor);
        }
    }

    /// Somebody cancelled the job.
    pub(crate) fn cancelled(&self, lease: &str, code: i32) {
        if let Some(held) = self.lock().get(lease) {
            held.stop.request(StopReason::Cancelled(code));
        }
    }

    /// The dispatcher says that this lease is not live. True if that was news.
    pub(crate) fn lost(&self, lease: &str, now: Instant) -> bool {
        let margin = self.margin();
        self.lock().get_mut(lease).is_some_and(|held| held.lose(now, margin))
    }

    /// Asks handlers to stop whose lease can no longer be trusted, and drops those that had their time to do so. Also asks
    /// those whose own time is over: they may block the runtime that else would.
    /// Returns how many leases were lost just now.
    pub(crate) fn expire(&self, now: Instant) -> usize {
        let margin = self.margin();
        let mut lost = 0;
        for held in self.lock().values_mut() {
            if now >= held.anchor + self.length - margin && held.lose(now, margin) {
                lost += 1;
            }
            if held.time.is_some_and(|time| now >= time.ask_at()) {
                held.stop.request(StopReason::TimedOut);
            }
            if held.drop_at.is_some_and(|at| now >= at)
                && let Some(abort) = held.abort.take()
            {
                abort.abort();
            }
        }
        lost
    }

    fn lock(&self) -> MutexGuard<'_, Map<Held>> {
        // Nothing under this lock can leave it half-way.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn lose(&mut self, now: Instant, margin: Duration) -> bool {
        if self.drop_at.is_some() {
            return false;
        }
        self.drop_at = Some(now + margin);
        self.stop.request(StopReason::LeaseLost);
        true
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tidemill_common::api::Progress;

    use super::*;

    #[test]
    fn trust_is_counted_from_the_start_of_the_request() {
        let leases = Leases::new(Duration::from_secs(10));
        let start = Instant::now();
        let (lease, stop): (Lease, Stop) = ("a".into(), Stop::default());
        leases.hold(&lease, start, (stop.clone(), Reports::default()), None);
        assert_eq!(leases.expire(start + Duration::from_millis(8_999)), 0);
        assert!(leases.due(start + Duration::from_millis(3_300)).is_empty());
        assert_eq!(leases.due(start + Duration::from_millis(3_400)).len(), 1);

        leases.extended("a", start + Duration::from_secs(5));
        assert_eq!(leases.expire(start + Duration::from_millis(13_999)), 0);
        assert_eq!(stop.reason(), None);
        assert_eq!(leases.expire(start + Duration::from_secs(14)), 1);
        assert_eq!(stop.reason(), Some(StopReason::LeaseLost));
        assert!(leases.due(start + Duration::from_secs(15)).is_empty(), "a lost lease is not extended");
    }

    #[tokio::test]
    async fn a_report_is_due_sooner_and_at_once_when_somebody_waits() {
        let leases = Leases::new(Duration::from_secs(10));
        let (start, reports) = (Instant::now(), Reports::default());
        leases.hold(&"a".into(), start, (Stop::default(), reports.clone()), None);
        leases.hold(&"b".into(), start, Default::default(), None);
        let due = |ms| leases.due(start + Duration::from_millis(ms)).len();
        reports.say(None, Progress::default().with_percent(1)).unwrap();
        assert_eq!([due(900), due(1_100), due(3_400)], [0, 1, 2]);
        assert!(reports.settled(Duration::from_secs(1)).now_or_never().is_none());
        assert_eq!(due(0), 1);
        reports.heard(1);
        assert_eq!([due(0), due(1_100)], [0, 0]);
    }

    #[test]
    fn a_handler_hears_that_its_time_is_over_whatever_its_runtime_does() {
        let leases = Leases::new(Duration::from_secs(10));
        let (start, stop) = (Instant::now(), Stop::default());
        let time = AttemptTime::new(1_000, start);
        leases.hold(&"a".into(), start, (stop.clone(), Reports::default()), Some(time));
        assert_eq!(leases.expire(start + Duration::from_millis(799)), 0);
        assert_eq!(stop.reason(), None);
        assert_eq!(leases.expire(start + Duration::from_millis(800)), 0, "its lease is not lost");
        assert_eq!(stop.reason(), Some(StopReason::TimedOut));
    }

    #[test]
    fn an_older_answer_does_not_shorten_a_lease() {
        let leases = Leases::new(Duration::from_secs(10));
        let start = Instant::now();
        leases.hold(&"a".into(), start + Duration::from_secs(3), Default::default(), None);
        leases.extended("a", start);
        assert_eq!(leases.expire(start + Duration::from_secs(11)), 0);
    }
}
