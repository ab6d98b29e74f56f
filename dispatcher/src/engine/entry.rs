//! An entry of the log as the engine holds it, and how it is read from an event row.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use tidemill_common::api::{Previous, PreviousEnd, limit};
use tidemill_common::id::WorkerInstance;

use super::record::{EntryKey, Holder};
use super::time::Micros;

/// One row of a job queue's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    pub job: i64,
    pub inserted_at: Micros,
    /// The transaction that wrote it.
    pub txid: i64,
    /// The queue's own subscription, if the job was put again.
    pub owner: Option<i32>,
    /// The put; `None` is 0.
    pub retry: Option<i32>,
    pub event: Event,
}

/// What the producer wrote: passed on untouched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    pub kind: Option<String>,
    pub data: Option<String>,
    pub extra: [Option<String>; 4],
}

impl Event {
    /// Bytes it takes in the window.
    #[must_use]
    pub fn weight(&self) -> usize {
        let text = |t: &Option<String>| t.as_ref().map_or(0, String::len);
        size_of::<Entry>() + text(&self.kind) + text(&self.data) + self.extra.iter().map(text).sum::<usize>()
    }
}

/// A job that is in the log, not yet resolved.
#[derive(Debug, Clone)]
pub struct Entry {
    pub key: EntryKey,
    pub inserted_at: Micros,
    /// Leases minus declines so far.
    pub attempt: i32,
    /// The job's own limit, if its options have one.
    pub max_attempts: Option<i32>,
    /// How the last lease ended.
    pub previous: Option<Previous>,
    /// What jobs are coalesced by.
    pub coalesce_key: Option<Box<str>>,
    /// Does its end free a unique key?
    pub unique: bool,
    /// Higher goes first; 0 if its options do not say.
    pub priority: i16,
    /// Shared with the answers that carry it to workers.
    pub event: Arc<Event>,
}

impl Entry {
    /// Reads a row; `None` if it is another consumer's retry and none of ours.
    #[must_use]
    pub fn read(row: LogRow, sub_id: i32) -> Option<Self> {
        let LogRow { job, inserted_at, owner, retry, mut event, .. } = row;
        if owner.is_some_and(|owner| owner != sub_id) {
            return None;
        }
        let reput = if owner.is_some() { Reput::take(&mut event) } else { None };
        let mut entry = Self::new(EntryKey { job, put: retry.unwrap_or(0) }, inserted_at, event);
        if let Some(reput) = reput {
            entry.attempt = reput.attempt;
            entry.previous = reput.previous.and_then(|p| serde_json::from_value(p).ok());
        }
        Some(entry)
    }

    /// Its type; an event without one has the empty type.
    pub(super) fn kind(&self) -> &str {
        self.event.kind.as_deref().unwrap_or_default()
    }

    /// An entry that was never leased, with the options its producer gave it.
    pub(super) fn new(key: EntryKey, inserted_at: Micros, event: Event) -> Self {
        let options = event.extra[0].as_deref().and_then(options).unwrap_or_default();
        Self {
            key,
            inserted_at,
            attempt: 0,
            max_attempts: options.max_attempts,
            previous: None,
            coalesce_key: options.coalesce_key,
            unique: options.unique.is_some(),
            priority: options.priority.and_then(priority).unwrap_or(0),
            event: Arc::new(event),
        }
    }
}

/// How a lease of this holder ended.
#[must_use]
pub fn previous(holder: &Holder, ended: PreviousEnd, at: Micros) -> Previous {
    let at: Timestamp = at.timestamp();
    Previous {
        instance: WorkerInstance(holder.instance),
        host: (!holder.host.is_empty()).then(|| holder.host.clone()),
        pid: (holder.pid != 0).then_some(holder.pid),
        ended,
        at,
    }
}

/// `ev_extra1` of an entry that was put again.
#[derive(Deserialize)]
struct Reput {
    attempt: i32,
    previous: Option<serde_json::Value>,
    extra1: Option<String>,
}

impl Reput {
    /// Takes `tidemill.reput_extra` apart again: the event has its own extra then.
    fn take(event: &mut Event) -> Option<Self> {
        let reput: Self = serde_json::from_str(event.extra[0].as_deref()?).ok()?;
        event.extra[0].clone_from(&reput.extra1);
        Some(reput)
    }
}

/// What of the job's options concerns the engine.
#[derive(Default, Deserialize)]
struct Options<'a> {
    max_attempts: Option<i32>,
    /// As text: somebody else's event may have anything there.
    #[serde(borrow)]
    priority: Option<&'a RawValue>,
    #[serde(default)]
    coalesce_key: Option<Box<str>>,
    /// The database knows which key it is.
    unique: Option<serde::de::IgnoredAny>,
}

/// `ev_extra1` holds options only if it is a JSON object; anything else is the producer's own.
fn options(extra1: &str) -> Option<Options<'_>> {
    if extra1.trim_start().starts_with('{') { serde_json::from_str(extra1).ok() } else { None }
}

/// What a producer could have asked for; anything else is no priority.
fn priority(json: &RawValue) -> Option<i16> {
    json.get().parse().ok().filter(|priority| i32::from(*priority).abs() <= limit::PRIORITY)
}
