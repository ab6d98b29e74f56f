//! Progress: what unfinished jobs said of themselves last, for whoever asks and for their next attempt. It is not
//! written down: the next owner knows nothing of it until the next heartbeats.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tidemill_common::api;

/// Bytes that are remembered; beyond, those go first that were told first.
const BYTES: usize = 16 << 20;

/// The last report of each job, by its id: a retry is another entry of the log, and the same job.
#[derive(Debug, Default)]
pub(super) struct Progress {
    last: HashMap<i64, (u64, Arc<api::Progress>)>,
    /// Jobs in the order in which they reported.
    order: BTreeMap<u64, i64>,
    next: u64,
    bytes: usize,
}

impl Progress {
    pub(super) fn of(&self, job: i64) -> Option<Arc<api::Progress>> {
        self.last.get(&job).map(|(_, progress)| Arc::clone(progress))
    }

    pub(super) fn remember(&mut self, job: i64, progress: Arc<api::Progress>) {
        self.forget(job);
        self.bytes += weight(&progress);
        self.last.insert(job, (self.next, progress));
        self.order.insert(self.next, job);
        self.next += 1;
        while self.bytes > BYTES
            && let Some((_, oldest)) = self.order.first_key_value()
        {
            self.forget(*oldest);
        }
    }

    /// The job is finished for good.
    pub(super) fn forget(&mut self, job: i64) {
        if !self.last.is_empty()
            && let Some((at, progress)) = self.last.remove(&job)
        {
            self.order.remove(&at);
            self.bytes -= weight(&progress);
        }
    }
}

/// Bytes that it takes here, maps included.
fn weight(progress: &api::Progress) -> usize {
    let api::Progress { percent: _, message, checkpoint } = progress;
    let message = message.as_ref().map_or(0, String::len);
    let checkpoint = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.get().len());
    size_of::<api::Progress>() + 100 + message + checkpoint
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_the_oldest_report_goes_first() {
        let report = || {
            let message = Some("m".repeat(4_000));
            Arc::new(api::Progress { message, ..api::Progress::default() })
        };
        let mut progress = Progress::default();
        for job in 0..5_000 {
            progress.remember(job, report());
            progress.remember(0, report());
        }
        assert!(progress.bytes <= BYTES && progress.bytes > BYTES - 5_000, "{} bytes", progress.bytes);
        assert!(progress.of(0).is_some(), "it reported last");
        assert!(progress.of(1).is_none() && progress.of(4_999).is_some());
        for job in 0..5_000 {
            progress.forget(job);
        }
        assert_eq!((progress.bytes, progress.last.len(), progress.order.len()), (0, 0, 0));
    }
}
