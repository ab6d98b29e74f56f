//! Keys: one gate for each key that has jobs here, and the entries that wait before it. A key that has none, and whose
//! rate is rested, is forgotten.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::gate::Gate;
use super::{Rank, Slot};
use crate::engine::time::Micros;

/// Keys that may be here for their rates alone, beside as many as there are others.
const SPARE: usize = 1_000;

/// A key's place here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::engine) struct KeyNo(u32);

#[derive(Debug)]
pub(super) struct KeyGate {
    pub(super) name: Arc<str>,
    pub(super) gate: Gate,
    /// Entries of the window that are known to have the key, and its leases in the waiting room.
    pub(super) jobs: u64,
    /// Ready, and held back by this gate: by type, because who takes one type must not wait for another, and by rank.
    held: BTreeMap<String, BTreeMap<Rank, Slot>>,
    /// In the waiting room, parked for this key's limit.
    pub(super) parked: u64,
    /// Some of them are being put back.
    pub(super) is_called: bool,
    /// Those that were put back may take so long to be read.
    pub(super) not_before: Micros,
    /// It is among those that may be called back.
    pub(super) is_listed: bool,
}

impl KeyGate {
    fn is_idle(&self, since: Micros, now: Micros) -> bool {
        let is_used = self.jobs > 0 || self.parked > 0 || self.is_called || self.is_listed;
        !is_used && !self.gate.is_timed && self.gate.is_rested(since, now)
    }

    pub(super) fn hold(&mut self, kind: &str, rank: Rank, slot: Slot) {
        match self.held.get_mut(kind) {
            Some(slots) => drop(slots.insert(rank, slot)),
            None => drop(self.held.insert(kind.to_owned(), BTreeMap::from([(rank, slot)]))),
        }
    }

    /// Takes this entry out of those that are held back.
    pub(super) fn unhold(&mut self, kind: &str, rank: Rank) {
        if let Some(slots) = self.held.get_mut(kind) {
            slots.remove(&rank);
            if slots.is_empty() {
                self.held.remove(kind);
            }
        }
    }

    /// The first of those of a type, taken out.
    pub(super) fn first_held(&mut self, kind: &str) -> Option<Slot> {
        let (rank, slot) = self.held.get(kind)?.first_key_value().map(|(rank, slot)| (*rank, *slot))?;
        self.unhold(kind, rank);
        Some(slot)
    }

    /// The first of each type, taken out.
    pub(super) fn first_of_each(&mut self) -> Vec<Slot> {
        let firsts = self.held.values_mut().filter_map(BTreeMap::pop_first).map(|(_, slot)| slot).collect();
        self.held.retain(|_, slots| !slots.is_empty());
        firsts
    }

    /// All of them, taken out.
    pub(super) fn take_held(&mut self) -> Vec<Slot> {
        std::mem::take(&mut self.held).into_values().flat_map(BTreeMap::into_values).collect()
    }

    pub(super) fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Those that are held back, but for the first `keep` of each type.
    pub(super) fn held_beyond(&self, keep: usize) -> impl Iterator<Item = Slot> {
        self.held.values().flat_map(move |slots| slots.values().skip(keep).copied())
    }
}

#[derive(Debug, Default)]
pub(super) struct Keys {
    by_name: HashMap<Arc<str>, KeyNo>,
    gates: Vec<Option<KeyGate>>,
    free: Vec<KeyNo>,
    /// What the last sweep left.
    left: usize,
}

impl Keys {
    /// The key with this name; a new one has this gate.
    pub(super) fn of_name(&mut self, name: &str, gate: impl FnOnce() -> Gate) -> KeyNo {
        if let Some(no) = self.by_name.get(name) {
            return *no;
        }
        let name: Arc<str> = name.into();
        let key = KeyGate {
            name: Arc::clone(&name),
            gate: gate(),
            jobs: 0,
            held: BTreeMap::new(),
            parked: 0,
            is_called: false,
            not_before: Micros(0),
            is_listed: false,
        };
        let no = match self.free.pop() {
            Some(no) => no,
            None => {
                self.gates.push(None);
                KeyNo(u32::try_from(self.gates.len() - 1).expect("there are fewer keys than jobs"))
            }
        };
        self.gates[no.0 as usize] = Some(key);
        self.by_name.insert(name, no);
        no
    }

    pub(super) fn find(&self, name: &str) -> Option<KeyNo> {
        self.by_name.get(name).copied()
    }

    pub(super) fn get(&self, no: KeyNo) -> Option<&KeyGate> {
        self.gates.get(no.0 as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, no: KeyNo) -> Option<&mut KeyGate> {
        self.gates.get_mut(no.0 as usize)?.as_mut()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &KeyGate> {
        self.gates.iter().flatten()
    }

    pub(super) fn numbers(&self) -> Vec<KeyNo> {
        self.by_name.values().copied().collect()
    }

    /// Forgets the key, if nothing is left of it.
    pub(super) fn drop_idle(&mut self, no: KeyNo, since: Micros, now: Micros) {
        if let Some(place) = self.gates.get_mut(no.0 as usize)
            && let Some(key) = place.take_if(|key| key.is_idle(since, now))
        {
            self.by_name.remove(&key.name);
            self.free.push(no);
        }
    }

    /// Forgets, now and then, the keys that are here for their rates alone and need not be any more.
    pub(super) fn sweep(&mut self, since: Micros, now: Micros) {
        if self.by_name.len() > 2 * self.left + SPARE {
            for no in self.numbers() {
                self.drop_idle(no, since, now);
            }
            self.left = self.by_name.len();
        }
    }
}
