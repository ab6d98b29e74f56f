//! What one flush carries: records for the journal, and what enters or leaves the waiting room with them.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use tidemill_common::api::{JobOptions, NewJob};
use tidemill_common::id::QueueName;
use tidemill_common::lease::Lease;
use uuid::Uuid;

use super::cancel::{CancelItem, Cancelled};
use super::cancels::cancel_key;
use super::entry::{Entry, Event};
use super::finish::Said;
use super::record::{EntryKey, Holder, LeaseKey, Record, Resolution};
use super::window::Slot;

/// One call of `tidemill.journal_write`.
#[derive(Debug)]
pub struct Flush {
    /// Rising within the epoch.
    pub seq: i64,
    /// Encoded records; `None` when only the waiting room is touched.
    pub data: Option<Vec<u8>>,
    /// `i_cold`, as JSON; `None` on the hot path.
    pub cold: Option<String>,
}

/// The items of `i_cold`, as `unique_release`, `waiting_add`, `dead_add`, `failure_add`, `jobs_insert`,
/// `waiting_finish`, `details_note`, `waiting_extend`, `waiting_again`, `cancel_jobs`, `cancel_note`, `cancel_ended`,
/// `cancel_prune` and `unpark` take them.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Cold {
    /// Jobs with a unique key that come to an end.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) release: Vec<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) wait: Vec<Wait>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) dead: Vec<Dead>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) fail: Vec<Failure>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) insert: Vec<Insert>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) finish: Vec<Finish>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) result: Vec<JobResult>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) extend: Vec<Extend>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) again: Vec<WaitingLease>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) cancel: Vec<CancelItem>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) cancelled: Vec<Cancelled>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) ended: Vec<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) prune: Vec<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) unpark: Vec<Unpark>,
}

impl Cold {
    pub(super) fn is_empty(&self) -> bool {
        let Self { wait, dead, fail, insert, finish, result, extend, again, .. } = self;
        let Self { cancel, cancelled, ended, prune, unpark, release, .. } = self;
        let cancel = cancel.is_empty() && cancelled.is_empty() && ended.is_empty() && prune.is_empty();
        let (finish, extend, unpark) = (
            finish.is_empty() && result.is_empty(),
            extend.is_empty(),
            unpark.is_empty() && again.is_empty(),
        );
        release.is_empty()
            && wait.is_empty()
            && dead.is_empty()
            && fail.is_empty()
            && insert.is_empty()
            && finish
            && extend
            && cancel
            && unpark
    }
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Wait {
    pub(super) put: i32,
    pub(super) attempt: i32,
    pub(super) kind: &'static str,
    #[serde(flatten)]
    pub(super) due: Due,
    #[serde(flatten)]
    pub(super) lease: Option<LeaseItem>,
    /// Beyond which the lease is not extended; of a job with a timeout.
    #[serde(flatten)]
    pub(super) over: Option<Over>,
    /// Of a parked job: the key for whose limit it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parked_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) holder: Option<HolderItem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) previous: Option<serde_json::Value>,
    #[serde(flatten)]
    pub(super) job: JobItem,
}

/// When a row of the waiting room is due.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) enum Due {
    /// So many milliseconds after the flush.
    #[serde(rename = "due_ms")]
    After(u64),
    /// At the end of a lease that was granted before.
    #[serde(rename = "due")]
    At(i64),
    /// When somebody asks for it.
    #[serde(rename = "due_ms")]
    Never(()),
}

/// When the time of an attempt is over.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) enum Over {
    /// So many milliseconds after the flush.
    #[serde(rename = "over_ms")]
    After(u32),
    /// So long after a grant that is committed.
    #[serde(rename = "over_at")]
    At(i64),
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Dead {
    pub(super) put: i32,
    pub(super) attempt: i32,
    pub(super) reason: &'static str,
    pub(super) message: String,
    #[serde(flatten)]
    pub(super) job: JobItem,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Failure {
    pub(super) job: i64,
    pub(super) attempt: i32,
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) holder: Option<HolderItem>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Finish {
    #[serde(flatten)]
    pub(super) lease: WaitingLease,
    pub(super) outcome: &'static str,
    pub(super) delay_ms: u64,
    pub(super) message: String,
    /// Of a replace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) jobs: Option<NewJobs>,
    /// Of a completed job, if it has one: see [`JobResult`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<String>,
    /// Of a job that is being cancelled: the code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cancel: Option<i32>,
}

/// What a completed job's worker handed in. JSON as text: so the database stores whatever it is, as it came.
#[derive(Debug, Clone, Serialize)]
pub(super) struct JobResult {
    pub(super) job: i64,
    pub(super) result: String,
}

/// The jobs of one replace, and which job they replace.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Insert {
    pub(super) job: i64,
    pub(super) jobs: NewJobs,
}

/// A JSON array of `{"queue", "type", "args", "options"}`, written once: the arguments pass as they came.
pub(super) type NewJobs = Box<RawValue>;

/// Writes the jobs of a replace down.
pub(super) fn new_jobs(jobs: &[NewJob]) -> NewJobs {
    #[derive(Serialize)]
    struct Row {
        #[serde(skip_serializing_if = "Option::is_none")]
        queue: Option<QueueName>,
        r#type: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        args: Option<Box<RawValue>>,
        #[serde(skip_serializing_if = "JobOptions::is_empty")]
        options: JobOptions,
    }
    let row = |job: &NewJob| {
        let queue = job.queue.clone();
        let (r#type, args, options) = job.clone().into_parts();
        Row { queue, r#type, args, options }
    };
    let rows: Vec<Row> = jobs.iter().map(row).collect();
    serde_json::value::to_raw_value(&rows).expect("names, texts and JSON can be written as JSON")
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Extend {
    #[serde(flatten)]
    pub(super) lease: WaitingLease,
    pub(super) ms: u64,
}

/// Parked jobs to be put back into the log.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Unpark {
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// Those that are parked for the limit of this key, whatever their types.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    pub(super) limit: usize,
    /// Not the jobs with these keys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) without: Vec<String>,
}

/// A lease that lives in the waiting room.
#[derive(Debug, Clone, Serialize)]
pub(super) struct WaitingLease {
    pub(super) job: i64,
    put: i32,
    attempt: i32,
    #[serde(flatten)]
    lease: LeaseItem,
}

impl From<&Lease> for WaitingLease {
    fn from(lease: &Lease) -> Self {
        let Lease { job, put, attempt, epoch, number, nonce, .. } = *lease;
        Self { job, put, attempt, lease: LeaseItem { epoch, no: number, nonce: nonce.cast_signed() } }
    }
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct LeaseItem {
    pub(super) epoch: i64,
    pub(super) no: i64,
    pub(super) nonce: i64,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct HolderItem {
    instance: Uuid,
    host: String,
    pid: u32,
}

impl From<&Holder> for HolderItem {
    fn from(holder: &Holder) -> Self {
        Self { instance: holder.instance, host: holder.host.clone(), pid: holder.pid }
    }
}

/// The job itself; `time` in microseconds since 1970 UTC.
#[derive(Debug, Clone, Serialize)]
pub(super) struct JobItem {
    job: i64,
    time: i64,
    #[serde(rename = "type")]
    kind: Option<String>,
    data: Option<String>,
    x1: Option<String>,
    x2: Option<String>,
    x3: Option<String>,
    x4: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancel_key: Option<i64>,
}

impl From<&Entry> for JobItem {
    fn from(entry: &Entry) -> Self {
        let Event { kind, data, extra: [x1, x2, x3, x4] } = (*entry.event).clone();
        let cancel_key = cancel_key(&entry.event);
        Self { job: entry.key.job, time: entry.inserted_at.0, kind, data, x1, x2, x3, x4, cancel_key }
    }
}

/// What the commit of a unit does to the window.
#[derive(Debug)]
pub(super) enum Effect {
    /// The lease begins, for so many milliseconds from the flush's time.
    Grant { slot: Slot, ms: u64 },
    /// The lease begins in the waiting room; the entry is resolved.
    Lend { slot: Slot, ms: u64 },
    /// The entry is done with.
    Resolve { slot: Slot, how: Resolution },
    /// The lease was given back.
    Release { slot: Slot },
    /// The lease lasts longer.
    Extend { slot: Slot, ms: u64 },
    /// The entry goes on in the waiting room, with its lease or parked, and if for the limit of its key, for which.
    Move { slot: Slot, key: Option<Arc<str>> },
}

/// Records and effects that stand or fall together: one request, or one thing the engine does by itself.
#[derive(Debug, Default)]
pub(super) struct Unit {
    pub(super) records: Vec<Record>,
    pub(super) cold: Cold,
    pub(super) effects: Vec<Effect>,
    /// What each of `cold.finish` says: remembered if the waiting room takes it.
    pub(super) said: Vec<(LeaseKey, Said)>,
    /// The leases that `cold.again` asks for.
    pub(super) again: Vec<Lease>,
    pub(super) reply: Option<super::answer::Reply>,
}

impl Unit {
    pub(super) fn writes(&self) -> bool {
        !self.records.is_empty() || !self.cold.is_empty()
    }

    /// Adds a resolution to the unit's record of that kind, so that a hundred results are one record.
    pub(super) fn resolve(&mut self, how: Resolution, entry: EntryKey, lease: LeaseKey) {
        let same = self.records.iter_mut().rev().find_map(|record| match record {
            Record::Resolved { how: other, entries } if *other == how => Some(entries),
            _ => None,
        });
        match same {
            Some(entries) => entries.push((entry, lease)),
            None => self.records.push(Record::Resolved { how, entries: vec![(entry, lease)] }),
        }
    }
}
