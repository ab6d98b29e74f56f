//! Limited: the gates of a queue's limits, and what waits before them. A type at its limit is put aside as a whole; an
//! entry whose key is at its limit is put to its key's when it is picked, and comes back to where it stood when the gate
//! opens: of each type the first one, because one is what a slot is for. What nobody limits pays nothing for this.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};

use tidemill_common::api::QueueLimits;

use super::gate::{Gate, Turn};
use super::keys::{KeyNo, Keys};
use super::{Rank, Slot};
use crate::engine::entry::Entry;
use crate::engine::pause;
use crate::engine::record::LeaseKey;
use crate::engine::recover::Unread;
use crate::engine::time::Micros;

#[derive(Debug)]
pub(super) struct Limited {
    pub(super) limits: QueueLimits,
    pub(super) now: Micros,
    /// When the limits came into force here.
    pub(super) since: Micros,
    /// Their types and keys are not known.
    pub(super) unread: Unread,
    /// The leases of the waiting room are known.
    pub(super) is_counted: bool,
    pub(super) queue: Gate,
    pub(super) types: Vec<(String, Gate)>,
    pub(super) by_type: HashMap<String, usize>,
    /// The ready entries of types at their limits.
    pub(super) aside: BTreeMap<String, VecDeque<Slot>>,
    pub(super) aside_count: usize,
    pub(super) keys: Keys,
    pub(super) held_count: usize,
    notes: Vec<Note>,
    pub(super) lent: BTreeMap<LeaseKey, Lent>,
    /// Where the next look for lent leases goes on, and when.
    pub(super) surveyed: Option<LeaseKey>,
    pub(super) survey_at: Micros,
    /// When to look at gates that are closed for their rates.
    pub(super) timers: BinaryHeap<Reverse<(Micros, Which)>>,
    /// Keys of which parked jobs may come back.
    pub(super) calls: VecDeque<KeyNo>,
    pub(super) parked: u64,
}

/// What is to be known of an entry of the window while there are limits.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Note {
    pub(super) key: Tag,
    /// It is counted.
    pub(super) is_claimed: bool,
    pub(super) is_held: bool,
}

/// The key of an entry, once somebody had to look for it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Tag {
    #[default]
    Unknown,
    None,
    Key(KeyNo),
}

/// A lease that lives in the waiting room.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) job: i64,
    pub(super) kind: String,
    pub(super) key: Option<KeyNo>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Which {
    Queue,
    Type(usize),
    Key(KeyNo),
}

/// What may go on after a lease has ended.
#[derive(Debug, Default)]
pub(super) struct Opened {
    pub(super) kind: bool,
    pub(super) slots: Vec<Slot>,
}

/// What became of an entry that was picked.
pub(super) enum Claim {
    /// It waits for its key.
    Held,
    Taken {
        closes_type: bool,
        /// The next one of its key and type, if there is one and the gate is still open.
        next: Option<Slot>,
    },
}

impl Limited {
    pub(super) fn new(limits: QueueLimits, now: Micros, unread: Unread) -> Self {
        let types: Vec<(String, Gate)> =
            limits.types.iter().map(|(name, limit)| (name.clone(), Gate::new(Some(limit), now))).collect();
        Self {
            now,
            since: now,
            unread,
            is_counted: !limits_leases(&limits),
            queue: Gate::new(limits.queue.as_ref(), now),
            by_type: types.iter().enumerate().map(|(n, (name, _))| (name.clone(), n)).collect(),
            types,
            aside: BTreeMap::new(),
            aside_count: 0,
            keys: Keys::default(),
            held_count: 0,
            notes: Vec::new(),
            lent: BTreeMap::new(),
            surveyed: None,
            survey_at: now,
            timers: BinaryHeap::new(),
            calls: VecDeque::new(),
            parked: 0,
            limits,
        }
    }

    /// Leases that are out and that the gates do not count.
    fn others(&self) -> u64 {
        if self.is_counted { self.unread.count } else { u64::MAX }
    }

    pub(super) fn note(&mut self, slot: Slot) -> &mut Note {
        let index = slot.0 as usize;
        if index >= self.notes.len() {
            self.notes.resize(index + 1, Note::default());
        }
        &mut self.notes[index]
    }

    pub(super) fn noted(&self, slot: Slot) -> Note {
        self.notes.get(slot.0 as usize).copied().unwrap_or_default()
    }

    pub(super) fn key_no(&mut self, name: &str) -> KeyNo {
        let (limit, since, others, now) = (self.limits.key.as_ref(), self.since, self.others(), self.now);
        self.keys.of_name(name, || {
            let mut gate = Gate::new(limit, since);
            gate.look(others, now);
            gate
        })
    }

    /// The key of an entry of the window, if keys are limited.
    pub(super) fn key_of(&mut self, slot: Slot, entry: &Entry) -> Option<KeyNo> {
        match self.note(slot).key {
            Tag::Key(no) => return Some(no),
            Tag::None => return None,
            Tag::Unknown => {}
        }
        self.limits.key.as_ref()?;
        let no = pause::key(&entry.event).map(|name| self.key_no(&name));
        if let Some(key) = no.and_then(|no| self.keys.get_mut(no)) {
            key.jobs += 1;
        }
        self.note(slot).key = no.map_or(Tag::None, Tag::Key);
        no
    }

    /// One job less of this key is here.
    pub(super) fn forget_key(&mut self, no: KeyNo) {
        if let Some(key) = self.keys.get_mut(no) {
            key.jobs = key.jobs.saturating_sub(1);
        }
        self.list_call(no);
        self.keys.drop_idle(no, self.since, self.now);
        self.keys.sweep(self.since, self.now);
    }

    pub(super) fn look_queue(&mut self) {
        let (others, now) = (self.others(), self.now);
        look(&mut self.queue, others, now, Which::Queue, &mut self.timers);
    }

    pub(super) fn look_type(&mut self, index: usize) -> Turn {
        let (others, now) = (self.others(), self.now);
        let Some((_, gate)) = self.types.get_mut(index) else { return Turn::Same };
        look(gate, others, now, Which::Type(index), &mut self.timers)
    }

    /// Looks at a key's gate: if it opens, those are taken out that are to come back, of each type the first or `all`.
    pub(super) fn look_key(&mut self, no: KeyNo, all: bool) -> Vec<Slot> {
        let (others, now) = (self.others(), self.now);
        let Some(key) = self.keys.get_mut(no) else { return Vec::new() };
        let slots = match look(&mut key.gate, others, now, Which::Key(no), &mut self.timers) {
            Turn::Opened if all => key.take_held(),
            Turn::Opened => key.first_of_each(),
            Turn::Closed | Turn::Same => Vec::new(),
        };
        self.unheld(&slots);
        self.list_call(no);
        slots
    }

    pub(super) fn unheld(&mut self, slots: &[Slot]) {
        self.held_count -= slots.len();
        for slot in slots {
            self.note(*slot).is_held = false;
        }
    }

    /// Is it time for parked jobs of this key? Then somebody who asks gets them back.
    pub(super) fn list_call(&mut self, no: KeyNo) {
        if self.parked == 0 {
            return;
        }
        let Some(key) = self.keys.get_mut(no) else { return };
        let is_free = key.parked > 0 && !key.gate.is_closed() && key.jobs == key.gate.leased();
        if is_free && !key.is_called && !key.is_listed {
            key.is_listed = true;
            self.calls.push_back(no);
        }
    }

    pub(super) fn claim(&mut self, slot: Slot, entry: &Entry, rank: Rank) -> Claim {
        let (kind, now) = (entry.kind(), self.now);
        let key = self.key_of(slot, entry);
        if let Some(key) = key.and_then(|no| self.keys.get_mut(no))
            && key.gate.is_closed()
        {
            key.hold(kind, rank, slot);
            self.held_count += 1;
            self.note(slot).is_held = true;
            return Claim::Held;
        }
        self.note(slot).is_claimed = true;
        self.queue.take(now);
        self.look_queue();
        let mut closes_type = false;
        if let Some(index) = self.by_type.get(kind).copied() {
            self.types[index].1.take(now);
            closes_type = self.look_type(index) == Turn::Closed;
        }
        let mut next = None;
        if let Some(no) = key {
            if let Some(key) = self.keys.get_mut(no) {
                key.gate.take(now);
            }
            self.look_key(no, false);
            next = self.next_of(no, kind);
        }
        Claim::Taken { closes_type, next }
    }

    /// The first of a key and type that is held back although the gate is open, taken out.
    pub(super) fn next_of(&mut self, no: KeyNo, kind: &str) -> Option<Slot> {
        let next = self.keys.get_mut(no).filter(|key| !key.gate.is_closed())?.first_held(kind)?;
        self.unheld(&[next]);
        Some(next)
    }

    /// Counts a lease that began before.
    pub(super) fn count(&mut self, kind: &str, key: Option<KeyNo>) {
        self.queue.count();
        if let Some(index) = self.by_type.get(kind) {
            self.types[*index].1.count();
        }
        if let Some(key) = key.and_then(|no| self.keys.get_mut(no)) {
            key.gate.count();
        }
    }

    /// Looks at the gates of a lease that was counted; does its type's close?
    pub(super) fn look_counted(&mut self, kind: &str, key: Option<KeyNo>) -> bool {
        self.look_queue();
        let index = self.by_type.get(kind).copied();
        let closes_type = index.is_some_and(|index| self.look_type(index) == Turn::Closed);
        if let Some(no) = key {
            self.look_key(no, false);
        }
        closes_type
    }

    /// A lease has ended.
    pub(super) fn give_back(&mut self, kind: &str, key: Option<KeyNo>, all: bool) -> Opened {
        let mut opened = Opened::default();
        self.queue.give_back();
        self.look_queue();
        if let Some(index) = self.by_type.get(kind).copied() {
            self.types[index].1.give_back();
            opened.kind = self.look_type(index) == Turn::Opened;
        }
        if let Some(no) = key {
            if let Some(key) = self.keys.get_mut(no) {
                key.gate.give_back();
            }
            opened.slots = self.look_key(no, all);
        }
        opened
    }

    /// Where ready entries of this type stand, and how many stand there, if it is at its limit.
    pub(super) fn aside_of(
        &mut self,
        kind: &str,
    ) -> Option<(&mut BTreeMap<String, VecDeque<Slot>>, &mut usize)> {
        self.is_closed_type(kind).then_some((&mut self.aside, &mut self.aside_count))
    }

    pub(super) fn is_closed_type(&self, kind: &str) -> bool {
        self.by_type.get(kind).is_some_and(|index| self.types[*index].1.is_closed())
    }
}

/// Looks at a gate, and sees to it that one whose rate keeps it closed is looked at again.
fn look(
    gate: &mut Gate,
    others: u64,
    now: Micros,
    which: Which,
    timers: &mut BinaryHeap<Reverse<(Micros, Which)>>,
) -> Turn {
    let turn = gate.look(others, now);
    if !gate.is_timed
        && let Some(at) = gate.paced_until(now)
    {
        gate.is_timed = true;
        timers.push(Reverse((at, which)));
    }
    turn
}

/// Does one of them limit how many are leased at once?
pub(super) fn limits_leases(limits: &QueueLimits) -> bool {
    let of = limits.queue.iter().chain(limits.types.values()).chain(&limits.key);
    of.into_iter().any(|limit| limit.leased.is_some())
}
