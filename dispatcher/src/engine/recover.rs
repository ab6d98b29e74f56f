//! Fold: what the journal says about the entries above the low-water mark, for a new owner.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tidemill_common::api::{Previous, PreviousEnd};
use tidemill_common::lease::Lease;
use uuid::Uuid;

use super::cancels::{Cancels, Snapshot};
use super::entry::previous;
use super::finished::{Children, Finished, FinishedThere, Note};
use super::record::{EntryKey, Holder, LeaseKey, Record, Resolution};
use super::repeats::Repeats;
use super::time::Micros;
use super::window::Held;

/// The journal, folded in the order it was written.
#[derive(Debug, Default)]
pub struct Fold {
    entries: HashMap<EntryKey, Folded>,
    /// Finished leases, oldest first: what `already` is answered from.
    pub(super) finished: Vec<(LeaseKey, Finished, Option<Children>)>,
    /// Numbered grabs, in the order of the journal.
    pub(super) repeats: Repeats,
    /// How many jobs of which type are parked.
    pub(super) parked: Vec<(String, u64)>,
    /// Those that are parked for the limits of their keys.
    pub(super) parked_keys: Vec<(String, u64)>,
    pub(super) cancels: Cancels,
}

/// What became of one entry.
#[derive(Debug, Clone)]
pub(super) struct Folded {
    pub(super) attempt: i32,
    pub(super) last: Last,
    /// How the lease before the last one ended.
    pub(super) previous: Option<Previous>,
}

impl Folded {
    /// How its last lease ended, if it is leased again then: what it may have been extended for is not known here.
    fn ended(&self, by: Micros) -> Option<Previous> {
        match &self.last {
            Last::Leased(held) => Some(previous(&held.holder, PreviousEnd::Expired, held.until.min(by))),
            Last::Released(previous) => previous.clone(),
            Last::Resolved => None,
        }
    }
}

/// Leases whose entries are not read yet. Nothing extends them before that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unread {
    pub(super) count: u64,
    /// When all of them have ended.
    pub(super) until: Micros,
}

impl Default for Unread {
    fn default() -> Self {
        Self { count: 0, until: Micros(i64::MIN) }
    }
}

#[derive(Debug, Clone)]
pub(super) enum Last {
    Leased(Held),
    Released(Option<Previous>),
    Resolved,
}

impl Fold {
    /// So many jobs of a type are parked in the waiting room.
    pub fn parked(&mut self, kind: String, count: u64) {
        self.parked.push((kind, count));
    }

    /// So many jobs are parked in the waiting room for the limit of their key.
    pub fn parked_key(&mut self, key: String, count: u64) {
        self.parked_keys.push((key, count));
    }

    /// All of a key's jobs that the snapshot sees are to end.
    pub fn cancel_key(&mut self, key: i64, code: i32, until: Snapshot) {
        self.cancels.set_key(key, code, until);
    }

    /// This job is to end.
    pub fn cancel_job(&mut self, job: i64, code: i32) {
        self.cancels.tell(job, code);
    }

    /// Applies one journal row: records of the owner with `epoch`, written at `at`, and its note.
    pub fn apply(&mut self, epoch: i64, at: Micros, records: Vec<Record>, mut note: Note) {
        self.finished.extend(note.finished.drain(..).filter_map(FinishedThere::read));
        // A lease that goes to the waiting room in the flush that grants it is a transactional one.
        let mut granted: Vec<Uuid> = Vec::new();
        // Of which grab the record before was.
        let mut grab = None;
        for record in records {
            let before = grab.take();
            match record {
                Record::Leased { first, nonce, ms, holder, request, entries } => {
                    if let Some(number) = request {
                        granted.push(holder.instance);
                        grab = Some((holder.instance, number));
                        let tokens = (first..).zip(&entries).map(|(number, leased)| Lease {
                            transactional: false,
                            queue_id: 0,
                            epoch,
                            number,
                            job: leased.entry.job,
                            put: leased.entry.put,
                            attempt: leased.attempt,
                            nonce,
                        });
                        if grab == before {
                            self.repeats.add(holder.instance, tokens); // leases of another length
                        } else {
                            self.repeats.remember(holder.instance, number, tokens.collect());
                        }
                    }
                    let holder: Arc<Holder> = Arc::new(holder);
                    for (number, leased) in (first..).zip(entries) {
                        let held = Held {
                            lease: LeaseKey { epoch, number },
                            nonce,
                            since: at,
                            until: at.plus_ms(ms),
                            holder: Arc::clone(&holder),
                            transactional: false,
                        };
                        let previous = self.entries.get(&leased.entry).and_then(|folded| folded.ended(at));
                        let (attempt, last) = (leased.attempt, Last::Leased(held));
                        self.entries.insert(leased.entry, Folded { attempt, last, previous });
                    }
                }
                Record::Extended { entry, lease, ms } => {
                    // The job's timeout is not known here: whoever reads the entry ends the lease within it.
                    if let Some(Folded { last: Last::Leased(held), .. }) = self.entries.get_mut(&entry)
                        && held.lease == lease
                    {
                        held.until = held.until.max(at.plus_ms(ms));
                    }
                }
                Record::Released { entry, lease } => {
                    if let Some(folded) = self.entries.get_mut(&entry)
                        && let Last::Leased(held) = &folded.last
                        && held.lease == lease
                    {
                        folded.attempt -= 1;
                        folded.last = Last::Released(Some(previous(&held.holder, PreviousEnd::Declined, at)));
                        self.finished.push((lease, Finished::Released, None));
                    }
                }
                Record::Resolved { how, entries } => {
                    if how == Resolution::Lent && !granted.is_empty() {
                        let lent: HashSet<LeaseKey> = entries.iter().map(|(_, lease)| *lease).collect();
                        for instance in &granted {
                            self.repeats.lent(*instance, |number| lent.contains(&LeaseKey { epoch, number }));
                        }
                    }
                    for (entry, lease) in entries {
                        if how == Resolution::Cancelled {
                            self.cancels.ended(entry.job);
                        }
                        self.entries
                            .insert(entry, Folded { attempt: 0, last: Last::Resolved, previous: None });
                        if !matches!(how, Resolution::Lent | Resolution::Parked) {
                            let ids = match how {
                                Resolution::Replaced => note.ids.pop_front(),
                                _ => None,
                            };
                            self.finished.push((lease, Finished::Resolved(how), ids.map(Children::new)));
                        }
                    }
                }
            }
        }
    }

    /// The leases that are out, or were, whose entries have not been read yet.
    pub(super) fn unread(&self) -> Unread {
        let leases = self.entries.values().filter_map(|folded| match &folded.last {
            Last::Leased(held) => Some(held.until),
            Last::Released(_) | Last::Resolved => None,
        });
        leases.fold(Unread::default(), |Unread { count, until }, end| Unread {
            count: count + 1,
            until: until.max(end),
        })
    }

    /// What became of this entry, asked once, when it is read from the log.
    pub(super) fn take(&mut self, key: EntryKey) -> Option<Folded> {
        if self.entries.is_empty() { None } else { self.entries.remove(&key) }
    }

    /// Is this the live lease of an entry that the log has, and that is not read yet?
    pub(super) fn holds(&self, entry: EntryKey, lease: LeaseKey, now: Micros) -> bool {
        self.entries.get(&entry).is_some_and(|folded| match &folded.last {
            Last::Leased(held) => held.lease == lease && held.until > now,
            Last::Released(_) | Last::Resolved => false,
        })
    }

    /// Every entry that the journal speaks of has been read: what is left belongs to entries below the mark.
    pub(super) fn clear(&mut self) {
        self.entries = HashMap::new();
    }
}
