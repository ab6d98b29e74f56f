//! Lent: leases that live in the waiting room. Where a worker's own transaction may end them the engine does not see it:
//! it counts them until somebody has looked.

use std::ops::Bound::{Excluded, Unbounded};

use super::limited::Lent;
use super::{Slot, Window, seat_of};
use crate::engine::limits::LentLease;
use crate::engine::record::LeaseKey;
use crate::engine::time::Micros;

/// Leases that are looked for at a time.
const SURVEY: usize = 1_000;
/// Between two looks.
const SURVEY_MS: u64 = 250;

impl Window {
    /// The lease of the entry in this slot goes on in the waiting room; the entry is about to leave the window.
    pub(in crate::engine) fn lend(&mut self, slot: Slot, lease: LeaseKey) {
        let keeps = self.keeps_lent();
        let Some(limited) = self.limited.as_deref_mut().filter(|_| keeps) else { return };
        let Some(seat) = seat_of(&self.seats, slot) else { return };
        let key = limited.key_of(slot, &seat.entry);
        if !std::mem::take(&mut limited.note(slot).is_claimed) {
            return;
        }
        if let Some(key) = key.and_then(|no| limited.keys.get_mut(no)) {
            key.jobs += 1;
        }
        let (job, kind) = (seat.entry.key.job, seat.entry.kind().to_owned());
        limited.lent.insert(lease, Lent { job, kind, key });
    }

    /// Counts leases of the waiting room that began before the limits did, or this owner.
    pub(in crate::engine) fn count_lent(&mut self, leases: Vec<LentLease>) {
        let Some(limited) = self.limited.as_deref_mut() else { return };
        limited.is_counted = true;
        for LentLease { job, lease, kind, key } in leases {
            if limited.lent.contains_key(&lease) {
                continue;
            }
            let key = key.filter(|_| limited.limits.key.is_some()).map(|name| limited.key_no(&name));
            if let Some(key) = key.and_then(|no| limited.keys.get_mut(no)) {
                key.jobs += 1;
            }
            limited.count(&kind, key);
            limited.lent.insert(lease, Lent { job, kind, key });
        }
        self.look_again();
    }

    /// This lease of the waiting room has ended.
    pub(in crate::engine) fn end_lent(&mut self, lease: LeaseKey) {
        let Some(limited) = self.limited.as_deref_mut() else { return };
        let Some(Lent { kind, key, .. }) = limited.lent.remove(&lease) else { return };
        let opened = limited.give_back(&kind, key, self.fresh.is_some());
        if let Some(no) = key {
            limited.forget_key(no);
        }
        self.go_on(&kind, opened);
    }

    /// When to look which of the lent leases are still there; `None`: that would change nothing.
    pub(in crate::engine) fn survey_at(&self) -> Option<Micros> {
        let limited = self.limited.as_ref()?;
        if limited.lent.is_empty() {
            return None;
        }
        // Parked jobs wait for their gates, too.
        let is_closed = limited.queue.is_closed() || limited.types.iter().any(|(_, gate)| gate.is_closed());
        let holds = is_closed || limited.held_count > 0 || limited.parked > 0;
        (holds || limited.lent.len() > SURVEY).then_some(limited.survey_at)
    }

    /// The leases to look for now, and their jobs.
    pub(in crate::engine) fn survey(&mut self) -> Option<Vec<(i64, LeaseKey)>> {
        let at = self.survey_at()?;
        let limited = self.limited.as_deref_mut()?;
        if limited.now < at {
            return None;
        }
        limited.survey_at = limited.now.plus_ms(SURVEY_MS);
        let of = |(lease, lent): (&LeaseKey, &Lent)| (lent.job, *lease);
        let mut leases: Vec<_> = match limited.surveyed {
            Some(last) => limited.lent.range((Excluded(last), Unbounded)).take(SURVEY).map(of).collect(),
            None => Vec::new(),
        };
        if leases.is_empty() {
            leases = limited.lent.iter().take(SURVEY).map(of).collect();
        }
        limited.surveyed = leases.last().map(|(_, lease)| *lease);
        Some(leases)
    }
}
