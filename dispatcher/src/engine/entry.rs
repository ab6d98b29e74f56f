//! An entry of the log as the engine holds it, and how it is read from an event row.

use std::num::NonZeroU32;
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
    /// How long one attempt may take, counted from its grab, if its options say so.
    pub timeout_ms: Option<NonZeroU32>,
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
            timeout_ms: options.timeout_ms.and_then(timeout_ms),
            previous: None,
            coalesce_key: options.coalesce_key,
            unique: options.unique.is_some(),
            priority: options.priority.and_then(priority).unwrap_or(0),
            event: Arc::new(event),
        }
    }

    /// How long a lease of it is that somebody wants for `ms`.
    pub(super) fn lease_ms(&self, ms: u64) -> u64 {
        self.timeout_ms.map_or(ms, |timeout_ms| ms.min(timeout_ms.get().into()))
    }

    /// When the time of an attempt that was granted then is over; `None`: it may take as long as its lease is extended.
    pub(super) fn over_at(&self, since: Micros) -> Option<Micros> {
        self.timeout_ms.map(|timeout_ms| since.plus_ms(timeout_ms.get().into()))
    }

    /// The end of a lease that was granted at `since` and is to last until `until`.
    pub(super) fn end_within(&self, since: Micros, until: Micros) -> Micros {
        self.over_at(since).map_or(until, |over_at| until.min(over_at))
    }

    /// What is recorded of an attempt whose lease ended then without a result, if its own time was over.
    pub(super) fn why_over(&self, since: Micros, until: Micros) -> Option<String> {
        let timeout_ms = self.timeout_ms.filter(|_| self.over_at(since).is_some_and(|at| at <= until))?;
        Some(format!("the attempt's time of {timeout_ms} ms was over"))
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
    timeout_ms: Option<&'a RawValue>,
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

/// What a producer could have asked for; anything else is no timeout.
fn timeout_ms(json: &RawValue) -> Option<NonZeroU32> {
    let timeout_ms: NonZeroU32 = json.get().parse().ok()?;
    (u64::from(timeout_ms.get()) <= limit::LEASE_MAX_MS).then_some(timeout_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_what_a_producer_could_have_asked_for() {
        let read = |timeout: &str| {
            let extra = format!(r#"{{"timeout_ms":{timeout},"max_attempts":3,"coalesce_key":"c"}}"#);
            let event = Event { extra: [Some(extra), None, None, None], ..Event::default() };
            let entry = Entry::new(EntryKey { job: 1, put: 0 }, Micros(0), event);
            // Whatever it is, the other options hold.
            let others = (entry.max_attempts, entry.coalesce_key.as_deref());
            assert_eq!(others, (Some(3), Some("c")), "{timeout}");
            entry.timeout_ms.map(NonZeroU32::get)
        };
        assert_eq!(read("1"), Some(1));
        assert_eq!(read("86400000"), Some(86_400_000));
        for nonsense in ["0", "86400001", "99999999999999999999", "-1", "1.5", "1e3"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
        for nonsense in ["\"30\"", "null", "[1]", "{}"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
    }
}
