//! Rank: who goes first among those that are ready. A job's place is decided once, when it is read: nothing is sorted
//! again as time passes, and yet whoever waits gains on those that come later.

use std::collections::BTreeMap;

use super::{Slot, Window};
use crate::engine::time::Micros;

/// What one point of priority is worth, in microseconds of waiting: a minute.
const POINT: i64 = 60_000_000;

/// Of two entries the one with the lower rank goes first. Time does not go back within an engine: entries of the same
/// priority keep the order in which they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::engine) struct Rank {
    /// When it was read, a minute earlier for each point of its priority.
    since: Micros,
    /// Order of reading.
    pub(in crate::engine) order: u64,
}

impl Rank {
    /// Before all others.
    pub(in crate::engine) const FIRST: Self = Self { since: Micros(i64::MIN), order: 0 };

    pub(super) fn new(read_at: Micros, priority: i16, order: u64) -> Self {
        Self { since: Micros(read_at.0 - i64::from(priority) * POINT), order }
    }

    #[cfg(test)]
    pub(in crate::engine) fn is_late(self) -> bool {
        self == self.late()
    }

    /// Before all that are not late, in the order of reading.
    fn late(self) -> Self {
        Self { order: self.order, ..Self::FIRST }
    }
}

/// Ready entries by the order of reading, once that is not the order in which they go. A queue whose jobs have no
/// priority pays nothing for it.
#[derive(Debug, Default)]
pub(super) struct Read(Option<BTreeMap<u64, Slot>>);

impl Read {
    pub(super) fn insert(&mut self, rank: Rank, slot: Slot) {
        if let Some(slots) = &mut self.0 {
            slots.insert(rank.order, slot);
        }
    }

    pub(super) fn remove(&mut self, rank: Rank) {
        if let Some(slots) = &mut self.0 {
            slots.remove(&rank.order);
        }
    }

    /// The ready entry that was read first, if that is kept.
    pub(super) fn first(&self) -> Option<&Slot> {
        self.0.as_ref()?.values().next()
    }
}

impl Window {
    /// An entry with a priority comes in: from now on what was read first need not be what goes first.
    pub(super) fn keep_read(&mut self) {
        if self.read.0.is_none() {
            let ready = self.ready.values().chain(self.aside()).flatten();
            let by_order = ready.filter_map(|slot| Some((self.get(*slot)?.rank.order, *slot)));
            self.read = Read(Some(by_order.collect()));
        }
    }

    /// Ready entries of these types that can be moved, those first that were read first; at most so many.
    pub(in crate::engine) fn first_read(&self, types: &[String], most: usize) -> Vec<Slot> {
        let queues = types.iter().filter_map(|kind| self.ready.get(kind));
        let movable = |slot: &Slot| {
            let seat = self.get(*slot).filter(|seat| !seat.immovable)?;
            Some((seat.rank.order, *slot))
        };
        let mut slots: Vec<(u64, Slot)> = queues.flatten().filter_map(movable).collect();
        if slots.len() > most {
            slots.select_nth_unstable(most);
            slots.truncate(most);
        }
        slots.sort_unstable();
        slots.into_iter().map(|(_, slot)| slot).collect()
    }

    /// Lets ready entries that were overtaken go before all others: those that were read more than so many entries ago,
    /// at most `most` of them.
    pub(in crate::engine) fn hurry(&mut self, ago: u64, most: usize) {
        let Some(read) = &self.read.0 else { return };
        let late = read.range(..self.next_order.saturating_sub(ago)).map(|(_, slot)| *slot);
        let is_overtaken = |slot: &Slot| self.get(*slot).is_some_and(|seat| seat.rank != seat.rank.late());
        for slot in late.filter(is_overtaken).take(most).collect::<Vec<_>>() {
            if self.take_ready(slot)
                && let Some(seat) = self.get_mut(slot)
            {
                seat.rank = seat.rank.late();
                self.enqueue(slot);
            }
        }
    }
}
