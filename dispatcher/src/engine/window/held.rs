//! Held: entries that are ready and paused, out of the order of what can be leased.

use std::collections::BTreeMap;

use super::{Slot, Window};
use crate::engine::pause::Paused;

#[derive(Debug, Default)]
pub(super) struct Held {
    paused: Paused,
    /// By the order of reading.
    slots: BTreeMap<u64, Slot>,
}

impl Held {
    pub(super) fn paused(&self) -> &Paused {
        &self.paused
    }
}

impl Window {
    pub(in crate::engine) fn paused(&self) -> &Paused {
        &self.held.paused
    }

    /// How many entries are ready and held back.
    pub(in crate::engine) fn held(&self) -> usize {
        self.held.slots.len()
    }

    /// Takes what is paused from now on out of the order, and puts what is not any more back where it stood.
    pub(in crate::engine) fn pause(&mut self, paused: Paused) {
        self.held.paused = paused;
        self.without_limits(Self::hold_paused);
    }

    fn hold_paused(&mut self) {
        let ready: Vec<Slot> = self.ready.values().flatten().copied().collect();
        for slot in ready {
            let Some(seat) = self.get(slot).filter(|seat| self.held.paused.holds(&seat.entry)) else {
                continue;
            };
            let order = seat.rank.order;
            if self.take_ready(slot) {
                self.held.slots.insert(order, slot);
            }
        }
        for (order, slot) in std::mem::take(&mut self.held.slots) {
            if self.get(slot).is_some_and(|seat| self.held.paused.holds(&seat.entry)) {
                self.held.slots.insert(order, slot);
            } else {
                self.enqueue(slot);
            }
        }
    }

    /// Holds an entry back that has become ready, if it is paused.
    pub(super) fn hold(&mut self, slot: Slot) -> bool {
        if self.held.paused.is_empty() {
            return false;
        }
        let Some(seat) = self.get(slot).filter(|seat| self.held.paused.holds(&seat.entry)) else {
            return false;
        };
        let order = seat.rank.order;
        self.held.slots.insert(order, slot);
        true
    }

    /// Takes this ready entry out of the order, held back or not; false if it is not ready.
    pub(in crate::engine) fn take_out(&mut self, slot: Slot) -> bool {
        let order = self.get(slot).map(|seat| seat.rank.order);
        let was_held = order.is_some_and(|order| self.held.slots.get(&order) == Some(&slot));
        if let Some(order) = order.filter(|_| was_held) {
            self.held.slots.remove(&order);
        }
        let is_out = was_held || self.take_held_by_key(slot) || self.take_ready(slot);
        if self.limited.is_some() {
            self.depart(slot);
        }
        is_out
    }

    /// Is this entry held back because it is paused?
    #[cfg(test)]
    pub(super) fn held_by_pause(&self, slot: Slot) -> Option<Slot> {
        self.held.slots.values().find(|held| **held == slot).copied()
    }

    /// Is this entry held back, because it is paused or for a limit?
    pub(in crate::engine) fn is_held(&self, slot: Slot) -> bool {
        self.is_limited(slot)
            || self.get(slot).is_some_and(|seat| self.held.slots.get(&seat.rank.order) == Some(&slot))
    }

    /// The entries held back for their type or key, those first that were read first. None while the queue is paused as a
    /// whole: then they wait in the log, as they do without workers.
    pub(in crate::engine) fn held_apart(&self) -> impl Iterator<Item = Slot> {
        let slots = (!self.held.paused.queue).then_some(&self.held.slots);
        slots.into_iter().flat_map(|slots| slots.values().copied())
    }
}
