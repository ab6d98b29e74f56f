//! Progress: what a handler says of its job, on its way to the dispatcher with the next heartbeat.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidemill_common::api::{At, Faults, Progress, Validate, Violation};
use tokio::sync::Notify;
use tokio::time::timeout;

/// A report that the dispatcher would refuse. Nothing was reported.
#[derive(Debug, thiserror::Error)]
#[error("the report's {field} {detail}")]
pub struct InvalidProgress {
    field: String,
    detail: String,
}

/// The newest report of one attempt, shared by its handler and the heartbeat.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reports(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    newest: Mutex<Newest>,
    /// The newest one has not been heard yet.
    waits: AtomicBool,
    /// Somebody waits for that.
    hurry: AtomicBool,
    heard: Notify,
}

#[derive(Debug, Default)]
struct Newest {
    report: Option<Progress>,
    number: u64,
}

impl Reports {
    /// Takes a report. What it leaves open stays as it was said before, in this attempt or (`before`) an earlier one.
    pub(crate) fn say(&self, before: Option<&Progress>, report: Progress) -> Result<(), InvalidProgress> {
        let mut faults = Faults::default();
        report.validate(At::Body, &mut faults);
        if let Some(Violation { pointer, detail }) = faults.into_violations().into_iter().next() {
            return Err(InvalidProgress { field: pointer.trim_start_matches('/').to_owned(), detail });
        }
        let mut newest = self.lock();
        let known = newest.report.take().or_else(|| before.cloned()).unwrap_or_default();
        newest.report = Some(Progress {
            percent: report.percent.or(known.percent),
            message: report.message.or(known.message),
            checkpoint: report.checkpoint.or(known.checkpoint),
        });
        newest.number += 1;
        self.0.waits.store(true, Ordering::Release);
        Ok(())
    }

    /// The newest report and its number.
    pub(crate) fn newest(&self) -> Option<(u64, Progress)> {
        let newest = self.lock();
        newest.report.clone().map(|report| (newest.number, report))
    }

    /// Has the newest report not been heard yet?
    pub(crate) fn waits(&self) -> bool {
        self.0.waits.load(Ordering::Acquire)
    }

    /// And does somebody wait for that?
    pub(crate) fn hurries(&self) -> bool {
        self.waits() && self.0.hurry.load(Ordering::Acquire)
    }

    /// The dispatcher has the report with this number.
    pub(crate) fn heard(&self, number: u64) {
        let newest = self.lock();
        if newest.number == number {
            self.0.waits.store(false, Ordering::Release);
            drop(newest);
            self.0.heard.notify_waiters();
        }
    }

    /// Waits until the newest report was heard, but no longer than this.
    pub(crate) async fn settled(&self, limit: Duration) {
        self.0.hurry.store(true, Ordering::Release);
        let settled = async {
            loop {
                let heard = self.0.heard.notified();
                tokio::pin!(heard);
                heard.as_mut().enable();
                if !self.waits() {
                    return;
                }
                heard.await;
            }
        };
        if timeout(limit, settled).await.is_err() {
            tracing::debug!("a job's last report was not heard in time");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Newest> {
        // Nothing under this lock can leave it half-way.
        self.0.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn percent(percent: u8) -> Progress {
        Progress { percent: Some(percent), ..Progress::default() }
    }

    #[test]
    fn a_report_keeps_what_it_does_not_say() {
        let reports = Reports::default();
        let before = Progress::default().with_checkpoint(&4).unwrap().with_message("page 4");
        reports.say(Some(&before), percent(40)).unwrap();
        reports.say(Some(&before), Progress::default().with_message("page 5")).unwrap();
        let (number, Progress { percent, message, checkpoint }) = reports.newest().unwrap();
        assert_eq!((number, percent, message.as_deref()), (2, Some(40), Some("page 5")));
        assert_eq!(checkpoint.unwrap().get(), "4");
    }

    #[test]
    fn an_older_report_that_was_heard_is_not_the_newest() {
        let reports = Reports::default();
        reports.say(None, percent(1)).unwrap();
        let (first, _) = reports.newest().unwrap();
        reports.say(None, percent(2)).unwrap();
        reports.heard(first);
        assert!(reports.waits());
        reports.heard(reports.newest().unwrap().0);
        assert!(!reports.waits());
    }

    #[test]
    fn what_the_dispatcher_would_refuse_is_refused_here() {
        let reports = Reports::default();
        assert_eq!(
            reports.say(None, percent(101)).unwrap_err().to_string(),
            "the report's percent must be between 0 and 100, and is 101"
        );
        reports.say(None, Progress::default().with_message("x".repeat(5_000))).unwrap_err();
        assert!(reports.newest().is_none());
    }
}
