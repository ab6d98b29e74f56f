//! Answers: what the engine says once the flush that backs it is committed.

use std::num::NonZeroU32;
use std::sync::Arc;

use tidemill_common::api::{Answer, Previous, Progress};
use tidemill_common::lease::Lease;

use super::cancel::{Call, Sweep};
use super::entry::Event;
use super::finish::Said;
use super::finished::Children;
use super::origin::Origin;
use super::record::LeaseKey;
use super::time::Micros;
use super::window::Slot;

/// Names a request between the engine and whoever waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// The answer to one request.
#[derive(Debug)]
pub enum Answered {
    /// Jobs, and what became of the results that came with the grab, in their order.
    Grab { jobs: Vec<Granted>, results: Vec<Decided> },
    /// In the order of the request.
    Results(Vec<Decided>),
    /// In the order of the request.
    Heartbeat(Vec<Extended>),
    /// Of a lease that is to be replaced by a stream: `ok` if it is live, and in the waiting room.
    Lent { decided: Decided, epoch: i64 },
    /// How many jobs a cancellation has ended, and how many handlers hear of it.
    Cancelled { cancelled: u64, told: u64 },
    /// What was paused is not handed out any more.
    Paused,
    /// The database refused the request's data; nothing of it happened.
    Refused(String),
}

/// What became of one result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    pub answer: Answer,
    /// The new jobs of a replace that is `ok` or `already`, as far as they are known.
    pub children: Option<Children>,
}

impl From<Answer> for Decided {
    fn from(answer: Answer) -> Self {
        Self { answer, children: None }
    }
}

impl PartialEq<Answer> for Decided {
    fn eq(&self, answer: &Answer) -> bool {
        self.answer == *answer
    }
}

/// A job on its way to a worker.
#[derive(Debug, Clone)]
pub struct Granted {
    pub lease: Lease,
    pub ends_at: Micros,
    pub inserted_at: Micros,
    pub max_attempts: i32,
    pub timeout_ms: Option<NonZeroU32>,
    pub previous: Option<Previous>,
    /// What the job's holder said last.
    pub progress: Option<Arc<Progress>>,
    /// Of a moved event.
    pub origin: Option<Origin>,
    pub event: Arc<Event>,
}

/// One lease of a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extended {
    Until(Micros),
    /// Until then; and the job is to be stopped, with this code.
    Stopping(Micros, i32),
    Stale,
    /// A worker's own transaction is about to decide, or nobody can tell now.
    Unavailable,
}

/// What is owed to a request whose unit is not committed yet.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) request: RequestId,
    pub(super) kind: ReplyKind,
}

#[derive(Debug)]
pub(super) enum ReplyKind {
    /// The leases that began with the unit, or, of a repeated grab, those that began before.
    Grab {
        again: Vec<(Slot, LeaseKey)>,
        results: Vec<Pending>,
    },
    Results(Vec<Pending>),
    Heartbeat(Vec<PendingBeat>),
    Lent(Loan),
    Cancel(Call),
    Sweep(Sweep),
    Pause,
}

/// The answer to a stream that asks for its lease, as far as it is known before the commit.
#[derive(Debug)]
pub(super) enum Loan {
    Known(Decided),
    /// It moves to the waiting room with this unit.
    Moved,
    /// It is there, if it is live.
    There(PendingExtension, LeaseKey),
}

/// A result's answer, as far as it is known before the commit.
#[derive(Debug, Clone)]
pub(super) enum Pending {
    Known(Decided),
    /// Other jobs exist instead, once that is committed.
    Replaced,
    /// The lease is being finished by another result, or by its end: what became of it counts, once that is committed.
    Deciding(LeaseKey, Said),
    /// The next of the waiting room's answers, about this job.
    Waiting(LeaseKey, Said, i64),
    /// The next of the waiting room's answers, unless the entry's move there was refused.
    Moving(Slot, LeaseKey, Said),
}

/// One lease of a heartbeat; what it says of its job counts if the lease is extended.
#[derive(Debug)]
pub(super) struct PendingBeat {
    pub(super) extension: PendingExtension,
    /// 0: of no lease.
    pub(super) job: i64,
    pub(super) progress: Option<Arc<Progress>>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum PendingExtension {
    /// The lease of the entry in this slot is extended.
    Slot(Slot, LeaseKey),
    /// The lease is being finished; it is stale once that is committed.
    Deciding(Slot, LeaseKey),
    Waiting,
    /// The next of the waiting room's answers, unless the entry's move there was refused.
    Moving(Slot, LeaseKey),
    Stale,
    /// Its entry is not read yet.
    Unavailable,
}
