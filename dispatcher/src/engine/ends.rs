//! Ends: when leases end, soonest first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::time::Micros;
use super::window::{Slot, Window};

/// How many ends of leases that are over may be here, beside as many as there are others.
const SPARE: usize = 10_000;

/// Ends of leases, by slot and number. One that was finished or extended stays until its first end: whoever takes an end
/// looks again. At a high rate nearly all are over long before, so these are swept out when they outnumber the others.
#[derive(Debug, Default)]
pub(super) struct Ends {
    heap: BinaryHeap<Reverse<(Micros, Slot, i64)>>,
    /// What the last sweep left.
    left: usize,
}

impl Ends {
    /// The lease with this number, in this slot of the window, may end then.
    pub(super) fn push(&mut self, until: Micros, slot: Slot, number: i64, window: &Window) {
        self.heap.push(Reverse((until, slot, number)));
        if self.heap.len() > 2 * self.left + SPARE {
            let is_held = |slot: Slot, number: i64| {
                window
                    .get(slot)
                    .and_then(|seat| seat.state.lease())
                    .is_some_and(|held| held.lease.number == number)
            };
            self.heap.retain(|Reverse((_, slot, number))| is_held(*slot, *number));
            self.left = self.heap.len();
        }
    }

    /// The soonest.
    pub(super) fn first(&self) -> Option<Micros> {
        self.heap.peek().map(|Reverse((until, ..))| *until)
    }

    /// The soonest, taken out, if it is not after `now`.
    pub(super) fn pop(&mut self, now: Micros) -> Option<(Slot, i64)> {
        self.first().filter(|until| *until <= now)?;
        self.heap.pop().map(|Reverse((_, slot, number))| (slot, number))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }
}
