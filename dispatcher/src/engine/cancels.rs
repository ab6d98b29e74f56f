//! Cancels: what cancellations still have to do. A job that somebody works on ends when nobody does any more; an entry that
//! is read later is cancelled then, if it existed when the cancellation was asked for. Nearly always empty: then an entry
//! costs two comparisons.

use std::collections::{HashMap, HashSet, VecDeque};
use std::str::FromStr;

use serde::Deserialize;
use serde_json::Value;

use super::Map;
use super::entry::{Entry, Event};
use super::time::Micros;

/// Jobs that ended as cancelled, remembered for results that come too late.
const ENDED: usize = 10_000;
/// Between two looks whether a cancellation has done its work.
const PRUNE_MS: u64 = 1_000;

/// Which transactions had ended at some moment, as PostgreSQL's `txid_snapshot`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Snapshot {
    xmin: i64,
    xmax: i64,
    /// Between both, and still in progress; ascending.
    running: Box<[i64]>,
}

/// A text that is no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no snapshot")]
pub struct NoSnapshot(String);

impl FromStr for Snapshot {
    type Err = NoSnapshot;

    fn from_str(text: &str) -> Result<Self, NoSnapshot> {
        let read = || {
            let mut parts = text.split(':');
            let (xmin, xmax) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            let running = parts.next()?.split(',').filter(|xid| !xid.is_empty());
            let running = running.map(|xid| xid.parse().ok()).collect::<Option<_>>()?;
            parts.next().is_none().then_some(Self { xmin, xmax, running })
        };
        read().ok_or_else(|| NoSnapshot(text.to_owned()))
    }
}

impl TryFrom<String> for Snapshot {
    type Error = NoSnapshot;

    fn try_from(text: String) -> Result<Self, NoSnapshot> {
        text.parse()
    }
}

impl Snapshot {
    fn sees(&self, txid: i64) -> bool {
        txid < self.xmin || (txid < self.xmax && self.running.binary_search(&txid).is_err())
    }
}

/// The key by which a job may be cancelled: looked for only when there is a reason to.
pub(super) fn cancel_key(event: &Event) -> Option<i64> {
    let options = event.extra[0].as_deref()?;
    if !options.contains("\"cancel_key\"") {
        return None;
    }
    match serde_json::from_str::<Value>(options).ok()?.get("cancel_key")? {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_i64(),
        _ => None,
    }
}

/// All of a key's jobs that existed at some moment.
#[derive(Debug)]
struct OfKey {
    code: i32,
    until: Snapshot,
}

#[derive(Debug, Default)]
pub(super) struct Cancels {
    keys: HashMap<i64, OfKey>,
    /// Single jobs, and what their handlers hear.
    jobs: Map<i64, i32>,
    ended: HashSet<i64>,
    ended_order: VecDeque<i64>,
    /// The mark at the last look whether something has done its work, and when to look again.
    looked: Option<i64>,
    look_at: Micros,
    /// Such a look is being committed.
    pub(super) looking: bool,
}

impl Cancels {
    fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.jobs.is_empty()
    }

    /// From now on the job ends when nobody works on it.
    pub(super) fn tell(&mut self, job: i64, code: i32) {
        self.jobs.insert(job, code);
    }

    /// From now on entries with this key that the snapshot sees are cancelled when they are read.
    pub(super) fn set_key(&mut self, key: i64, code: i32, until: Snapshot) {
        self.keys.insert(key, OfKey { code, until });
    }

    /// What the job's handler is told, if it is to stop.
    pub(super) fn code(&self, job: i64) -> Option<i32> {
        if self.jobs.is_empty() { None } else { self.jobs.get(&job).copied() }
    }

    /// Is this entry, read from the log, to be cancelled? `txid` wrote it.
    pub(super) fn hit(&self, entry: &Entry, txid: i64) -> Option<i32> {
        if self.is_empty() {
            return None;
        }
        self.code(entry.key.job).or_else(|| {
            let of = if self.keys.is_empty() { None } else { self.keys.get(&cancel_key(&entry.event)?) };
            of.filter(|of| of.until.sees(txid)).map(|of| of.code)
        })
    }

    /// The job came to an end, not by its cancellation.
    pub(super) fn forget(&mut self, job: i64) {
        if !self.jobs.is_empty() {
            self.jobs.remove(&job);
        }
    }

    /// The job ended as cancelled.
    pub(super) fn ended(&mut self, job: i64) {
        self.jobs.remove(&job);
        if self.ended.insert(job) {
            self.ended_order.push_back(job);
        }
        if self.ended_order.len() > ENDED
            && let Some(oldest) = self.ended_order.pop_front()
        {
            self.ended.remove(&oldest);
        }
    }

    /// Did the job end as cancelled, of late?
    pub(super) fn has_ended(&self, job: i64) -> bool {
        self.ended.contains(&job)
    }

    /// When to look whether something has done its work: after the mark has moved, now and then.
    pub(super) fn look_at(&self, mark: i64) -> Option<Micros> {
        let wanted = !self.is_empty() && !self.looking && self.looked != Some(mark);
        wanted.then_some(self.look_at)
    }

    /// Is there nothing to look for? Then the first look is a while after there is.
    pub(super) fn rests(&mut self, now: Micros) -> bool {
        if self.is_empty() {
            (self.looked, self.look_at) = (None, now.plus_ms(PRUNE_MS));
        }
        self.is_empty()
    }

    pub(super) fn look(&mut self, mark: i64, now: Micros) {
        (self.looked, self.look_at, self.looking) = (Some(mark), now.plus_ms(PRUNE_MS), true);
    }

    /// These have done their work.
    pub(super) fn pruned(&mut self, pruned: &Pruned) {
        self.looking = false;
        for key in &pruned.keys {
            self.keys.remove(key);
        }
        for job in &pruned.jobs {
            self.jobs.remove(job);
        }
    }
}

/// What `tidemill.cancel_prune` has forgotten.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Pruned {
    keys: Vec<i64>,
    jobs: Vec<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_postgresqls() {
        let snapshot: Snapshot = "10:15:11,13".parse().unwrap();
        let seen: Vec<i64> = (8..18).filter(|txid| snapshot.sees(*txid)).collect();
        assert_eq!(seen, [8, 9, 10, 12, 14]);
        let quiet: Snapshot = "7:7:".parse().unwrap();
        assert!(quiet.sees(6) && !quiet.sees(7));
        for text in ["", "7", "7:7", "a:7:", "7:7:x", "7:7::"] {
            assert_eq!(text.parse::<Snapshot>(), Err(NoSnapshot(text.to_owned())));
        }
    }

    #[test]
    fn a_key_is_a_number_in_the_options_however_it_is_written() {
        let key = |options: &str| {
            let mut event = Event::default();
            event.extra[0] = Some(options.to_owned());
            cancel_key(&event)
        };
        assert_eq!(key(r#"{"cancel_key":"42"}"#), Some(42));
        assert_eq!(key(r#" {"max_attempts": 3, "cancel_key": -7}"#), Some(-7));
        for none in [
            "",
            "cancel_key",
            r#"{"key":"42"}"#,
            r#"{"cancel_key":"x"}"#,
            r#""cancel_key""#,
            r#"{"cancel_key":null}"#,
        ] {
            assert_eq!(key(none), None, "{none}");
        }
    }
}
