//! Change: limits come into force, change, and are lifted; and what is paused changes while there are some.

use tidemill_common::api::QueueLimits;

use super::keys::KeyGate;
use super::limited::{Limited, limits_leases};
use super::{Slot, Window};
use crate::engine::recover::Unread;
use crate::engine::time::Micros;

impl Window {
    /// Does something as if there were no limits: all that they hold back is ready meanwhile.
    pub(super) fn without_limits(&mut self, change: impl FnOnce(&mut Self)) {
        let Some(mut limited) = self.limited.take() else { return change(self) };
        self.put_back(&mut limited);
        change(self);
        for (name, gate) in &limited.types {
            if gate.is_closed()
                && let Some((kind, queue)) = self.ready.remove_entry(name)
            {
                self.ready_count -= queue.len();
                limited.aside_count += queue.len();
                limited.aside.insert(kind, queue);
            }
        }
        self.limited = Some(limited);
    }

    /// All that is held back is ready again.
    fn put_back(&mut self, limited: &mut Limited) {
        limited.aside_count = 0;
        for (kind, queue) in std::mem::take(&mut limited.aside) {
            self.ready_count += queue.len();
            if let Some(fresh) = &mut self.fresh {
                fresh.extend(&queue);
            }
            self.ready.insert(kind, queue);
        }
        let numbers = limited.keys.numbers();
        let held = numbers.into_iter().filter_map(|no| limited.keys.get_mut(no).map(KeyGate::take_held));
        let slots: Vec<Slot> = held.flatten().collect();
        limited.unheld(&slots);
        for slot in slots {
            self.enqueue(slot);
        }
    }

    /// From now on these limits are in force, and no others; these leases are not read yet. Rates begin anew; leases of
    /// the waiting room are to be counted anew.
    pub(in crate::engine) fn set_limits(&mut self, limits: &QueueLimits, now: Micros, unread: Unread) {
        let old = self.limited.take();
        if old.as_ref().map_or(&QueueLimits::default(), |old| &old.limits) == limits {
            self.limited = old;
            return;
        }
        let mut parked = Vec::new();
        if let Some(mut old) = old {
            self.put_back(&mut old);
            parked.extend(
                old.keys.iter().filter(|key| key.parked > 0).map(|key| (key.name.to_string(), key.parked)),
            );
        }
        if limits.is_empty() && parked.is_empty() {
            return;
        }
        let mut limited = Box::new(Limited::new(limits.clone(), now, unread));
        for (slot, seat) in self.iter().filter(|(_, seat)| seat.state.is_counted()) {
            let key = limited.key_of(slot, &seat.entry);
            limited.note(slot).is_claimed = true;
            limited.count(seat.entry.kind(), key);
        }
        self.limited = Some(limited);
        for (name, count) in parked {
            self.park_key(&name, count);
        }
        self.look_again();
    }

    /// The limits in force.
    pub(in crate::engine) fn limits(&self) -> Option<&QueueLimits> {
        self.limited.as_ref().map(|limited| &limited.limits)
    }

    /// Do limits of leases wait until those of the waiting room are counted?
    pub(in crate::engine) fn wants_lent(&self) -> bool {
        self.limited.as_ref().is_some_and(|limited| !limited.is_counted)
    }

    /// Is it of use to know when leases of the waiting room end?
    pub(super) fn keeps_lent(&self) -> bool {
        self.limited.as_ref().is_some_and(|limited| limits_leases(&limited.limits))
    }
}
