//! Refusals: the database did not take the data of a flush. The one item that is at fault is found and told; nothing else
//! of the group is lost.

use super::Engine;
use super::answer::{Answered, Reply};
use super::commit::Group;
use super::flush::{Effect, Unit};
use super::record::Resolution;
use super::window::State;

impl Engine {
    /// The database refused the data of the flush under way; nothing of it was written. The units are tried again in
    /// halves, until the one that is refused stands alone: it is undone and told why.
    pub fn refused(&mut self, why: &str) {
        let Some(Group { mut units }) = self.in_flight.take() else { return };
        if units.len() == 1
            && let Some(unit) = units.pop()
        {
            self.undo(unit, why);
            self.serve_polls();
            return;
        }
        // Only these: what was suspected together with them comes after them, and is suspected again if it is refused.
        self.suspects = units.len();
        for unit in units.into_iter().rev() {
            self.pending.push_front(unit);
        }
    }

    fn undo(&mut self, unit: Unit, why: &str) {
        self.relief_refused(&unit);
        if !unit.cold.prune.is_empty() {
            self.cancels.looking = false;
        }
        for effect in unit.effects {
            let (Effect::Grant { slot, .. }
            | Effect::Lend { slot, .. }
            | Effect::Resolve { slot, .. }
            | Effect::Release { slot }
            | Effect::Extend { slot, .. }
            | Effect::Move { slot, .. }) = effect;
            let is_cancelled = matches!(effect, Effect::Resolve { how: Resolution::Cancelled, .. });
            let Some(seat) = self.window.get_mut(slot) else { continue };
            match &mut seat.state {
                State::Granting(_) => {
                    seat.entry.attempt -= 1;
                    self.ready_again(slot);
                }
                State::Finishing(Some(held)) | State::Moving(Some(held)) => {
                    let end = (held.until, held.lease.number);
                    seat.state = State::Leased(held.clone(), 0);
                    self.ends.push(end.0, slot, end.1, &self.window);
                }
                State::Leased(held, extending) => {
                    *extending = extending.saturating_sub(1);
                    let end = (held.until, held.lease.number);
                    self.ends.push(end.0, slot, end.1, &self.window);
                }
                State::Moving(None) => self.ready_again(slot),
                State::Finishing(None) if is_cancelled => self.window.make_ready(slot),
                State::Finishing(None) | State::Ready => {}
            }
        }
        if let Some(Reply { request, kind }) = unit.reply {
            self.cancel_refused(&kind);
            self.answers.push((request, Answered::Refused(why.to_owned())));
        }
    }
}
