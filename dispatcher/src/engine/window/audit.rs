//! Audit: does what limits hold back agree with what they count? For the simulation only.

use super::limited::{Note, Tag};
use super::{Slot, Window};

impl Window {
    /// What does not agree, as a sentence.
    pub(in crate::engine) fn audit_limits(&self) -> Result<(), String> {
        let Some(limited) = &self.limited else { return Ok(()) };
        let all: Vec<(Slot, &super::Seat, Note)> =
            self.iter().map(|(slot, seat)| (slot, seat, limited.noted(slot))).collect();
        let claimed = all.iter().filter(|(_, _, note)| note.is_claimed).count();
        let leased = limited.queue.leased();
        let lent = limited.lent.len();
        if leased != (claimed + lent) as u64 {
            return Err(format!("{leased} are counted, {claimed} are leased here and {lent} elsewhere"));
        }
        let held = all.iter().filter(|(_, _, note)| note.is_held).count();
        let aside: usize = limited.aside.values().map(std::collections::VecDeque::len).sum();
        if (held, aside) != (limited.held_count, limited.aside_count) {
            return Err(format!(
                "{held} are held and {aside} aside, not {:?}",
                (limited.held_count, limited.aside_count)
            ));
        }
        for kind in limited.aside.keys() {
            if !limited.is_closed_type(kind) || self.ready.contains_key(kind) {
                return Err(format!("{kind} is aside, and not at its limit"));
            }
        }
        // Of an open key somebody stands in the order for all that wait.
        for (_, seat, note) in all.iter().filter(|(_, _, note)| note.is_held) {
            let Tag::Key(no) = note.key else { return Err("held without a key".to_owned()) };
            let Some(key) = limited.keys.get(no) else { return Err("held by a key that is gone".to_owned()) };
            let stands = |(slot, other, of): &&(Slot, &super::Seat, Note)| {
                matches!(of.key, Tag::Key(other) if other == no)
                    && other.entry.kind() == seat.entry.kind()
                    && !of.is_held
                    && matches!(other.state, super::State::Ready)
                    && self.held_by_pause(*slot).is_none()
            };
            if !key.gate.is_closed() && !all.iter().any(|other| stands(&other)) {
                return Err(format!(
                    "{:?} is held, and its key {} is not at its limit",
                    seat.entry.key, key.name
                ));
            }
        }
        Ok(())
    }

    /// Counts this entry's lease no more, or for ever.
    pub(in crate::engine) fn miscount(&mut self, slot: Slot, gives_back: bool) {
        if let Some(limited) = self.limited.as_deref_mut().filter(|limited| limited.noted(slot).is_claimed) {
            if gives_back {
                self.release(slot);
            } else {
                limited.note(slot).is_claimed = false;
            }
        }
    }
}
