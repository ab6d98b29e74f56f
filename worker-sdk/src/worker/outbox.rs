//! Results that the dispatcher has not answered yet.

use std::collections::VecDeque;

use tidemill_common::api::{At, Faults};
use tidemill_common::api::{Outcome, ResultItem, Validate, limit};
use tokio::time::Instant;

use crate::outcome::Failure;

/// Bytes of results in one request; a dispatcher takes a megabyte by default.
const BATCH_BYTES: usize = 256 * 1024;

/// A result on its way.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) item: ResultItem,
    /// When the lease is over by any reckoning.
    give_up_at: Instant,
    size: usize,
    /// Does it stand in for a result that the dispatcher refused?
    fallback: bool,
}

impl Pending {
    /// A result that is checked before it is sent, so that one that cannot be stored does not spoil the others.
    pub(crate) fn new(lease: &str, outcome: Outcome, give_up_at: Instant) -> Pending {
        let mut item = ResultItem { lease: lease.to_owned(), outcome };
        let mut faults = Faults::default();
        item.validate(At::Body, &mut faults);
        if let Some(fault) = faults.into_violations().into_iter().next() {
            let why = format!("the handler's result cannot be stored: {} {}", fault.pointer, fault.detail);
            item.outcome = Failure::temporary(why).into();
        }
        let size = size(&item);
        Pending { item, give_up_at, size, fallback: false }
    }

    /// What to send instead of a result that the dispatcher refuses; nothing if it refused that too.
    pub(crate) fn instead(self, why: &str) -> Option<Pending> {
        let outcome = Failure::temporary(format_args!("the handler's result was refused: {why}")).into();
        (!self.fallback)
            .then(|| Pending { fallback: true, ..Pending::new(&self.item.lease, outcome, self.give_up_at) })
    }
}

/// First in, first out; bounded by what the lane holds.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pending: VecDeque<Pending>,
    /// Since when something is waiting.
    since: Option<Instant>,
    /// That many are sent one by one, because together they were refused.
    singly: usize,
}

impl Outbox {
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub(crate) fn since(&self) -> Option<Instant> {
        self.since
    }

    pub(crate) fn push(&mut self, pending: Pending) {
        self.since.get_or_insert_with(Instant::now);
        self.pending.push_back(pending);
    }

    /// What fits into one request.
    pub(crate) fn take(&mut self) -> Vec<Pending> {
        let most = if self.singly > 0 { 1 } else { limit::RESULTS };
        let mut taken = Vec::new();
        let mut bytes = 0;
        while let Some(next) = self.pending.front() {
            if taken.len() == most || (!taken.is_empty() && bytes + next.size > BATCH_BYTES) {
                break;
            }
            bytes += next.size;
            taken.extend(self.pending.pop_front());
        }
        self.singly = self.singly.saturating_sub(taken.len());
        self.since = (!self.pending.is_empty()).then(Instant::now);
        taken
    }

    /// Takes back what was not answered. Returns the leases that are over by now: their results are given up.
    pub(crate) fn put_back(&mut self, unanswered: Vec<Pending>) -> Vec<String> {
        let now = Instant::now();
        let (over, back): (Vec<_>, Vec<_>) = unanswered.into_iter().partition(|p| p.give_up_at <= now);
        for pending in back.into_iter().rev() {
            self.since.get_or_insert(now);
            self.pending.push_front(pending);
        }
        over.into_iter().map(|pending| pending.item.lease).collect()
    }

    /// A request with several results was refused as a whole: find the one.
    pub(crate) fn one_by_one(&mut self, refused: Vec<Pending>) -> Vec<String> {
        self.singly = refused.len();
        self.put_back(refused)
    }
}

/// About how many bytes a result takes in a request.
fn size(item: &ResultItem) -> usize {
    // Quotes, names, commas.
    const FRAME: usize = 48;
    FRAME
        + item.lease.len()
        + match &item.outcome {
            Outcome::Complete { result } => result.as_ref().map_or(0, |result| result.get().len()),
            Outcome::TempFail { .. } | Outcome::PermFail { .. } | Outcome::Replace { .. } => {
                serde_json::to_vec(item).map_or(0, |text| text.len())
            }
            Outcome::Decline => 0,
        }
}
