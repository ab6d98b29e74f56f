//! Order: who goes first among those that are ready, told from what the jobs say and when they were read.

use std::collections::BTreeSet;

use super::owner::{Ask, Asked, Owner};
use super::truth::{Checked, require};
use super::{Broken, World};
use crate::engine::flush::{Effect, Unit};
use crate::engine::window::{Seat, Slot, State};
use crate::engine::{LogRow, Micros};

const MINUTE: i64 = 60_000_000;

/// Options with the priority of this job; every fifth has nonsense there.
pub(super) fn with_priority(job: i64, options: &str) -> (i64, String) {
    let (priority, text) =
        [(0, "0"), (2, "2"), (-1, "-1"), (0, r#""high""#), (1_000, "1000")][(job % 5) as usize];
    (priority, options.replacen('{', &format!(r#"{{"priority":{text},"#), 1))
}

/// Under the mutants: what an owner takes for the priorities of jobs.
pub(super) fn mistake(broken: Option<Broken>, rows: &mut [LogRow]) {
    for options in rows.iter_mut().filter_map(|row| row.event.extra[0].as_mut()) {
        match broken {
            Some(Broken::PriorityIgnored) => *options = options.replace("priority", "colour"),
            Some(Broken::PriorityInverted) => {
                *options = options.replace(r#""priority":"#, r#""priority":-"#).replace("--", "");
            }
            _ => {}
        }
    }
}

impl World {
    /// Whatever was leased since the last look went before everything else that its grab could have had.
    pub(super) fn check_order(&mut self, index: usize) -> Checked {
        let owner = &self.owners[index];
        let engine = &owner.engine;
        let mut overtakes = false;
        let in_flight = engine.in_flight.iter().flat_map(|group| &group.units);
        for unit in in_flight.chain(&engine.pending) {
            let Some(asked) = owner.asked_of(unit) else { continue };
            let taken = owner.new_leases(unit);
            let left: Vec<_> = owner.allowed(asked).collect();
            // Of those that limits left behind, some may have been hurried after the others were leased.
            let of = |seat: &&Seat| match self.is_limited {
                true => (self.own_rank(owner, seat), seat.entry.key),
                false => (self.rank(owner, seat), seat.entry.key),
            };
            let Some(first_left) = left.iter().map(of).min_by_key(|(rank, _)| *rank) else { continue };
            for seat in taken {
                let rank = self.rank(owner, seat);
                let (key, window) = (seat.entry.key, self.limits.window_jobs as u64);
                require!(rank < first_left.0, "{key:?}, {rank:?}, was leased before {first_left:?}");
                let is_due = !seat.rank.is_late() || engine.window.loaded() - seat.rank.order > window;
                require!(is_due, "{key:?} goes before all others, and was read a moment ago");
                overtakes |= left.iter().any(|left| left.rank.order < seat.rank.order);
            }
        }
        let checked = engine.next_lease;
        self.owners[index].checked = checked;
        if overtakes {
            self.saw("job overtook another");
        }
        Ok(())
    }

    /// What the engine should go by: the time of reading, a minute earlier for each point, then the order.
    fn rank(&self, owner: &Owner, seat: &Seat) -> (i64, u64) {
        let (at, order) = self.own_rank(owner, seat);
        (if seat.rank.is_late() { i64::MIN } else { at }, order)
    }

    /// The same, as if it had not been hurried.
    fn own_rank(&self, owner: &Owner, seat: &Seat) -> (i64, u64) {
        let (at, order) = owner.read.get(&seat.entry.key).copied().unwrap_or((Micros(i64::MAX), u64::MAX));
        let priority = self.priorities.get(&seat.entry.key.job).copied().unwrap_or(0);
        (at.0 - priority * MINUTE, order)
    }
}

impl Owner {
    /// What the grab asked for that this unit answers, if somebody still waits for it.
    fn asked_of(&self, unit: &Unit) -> Option<&Asked> {
        match self.asked.get(&unit.reply.as_ref()?.request)? {
            Ask::Grab(_, asked) => Some(asked),
            Ask::Results(_) | Ask::Heartbeat(_) | Ask::Lend(..) | Ask::Cancel(_) => None,
        }
    }

    /// The entries that it leases, if that was decided since the last look.
    fn new_leases(&self, unit: &Unit) -> Vec<&Seat> {
        let slot = |effect: &Effect| match effect {
            Effect::Grant { slot, .. } | Effect::Lend { slot, .. } => Some(*slot),
            Effect::Resolve { .. } | Effect::Release { .. } | Effect::Extend { .. } | Effect::Move { .. } => {
                None
            }
        };
        let is_new = |seat: &&Seat| match &seat.state {
            State::Granting(held) => held.lease.number >= self.checked,
            State::Ready | State::Leased(..) | State::Finishing(_) | State::Moving(_) => false,
        };
        let slots: BTreeSet<Slot> = unit.effects.iter().filter_map(slot).collect();
        slots.into_iter().filter_map(|slot| self.engine.window.get(slot)).filter(is_new).collect()
    }

    /// The ready entries that such a grab could have.
    fn allowed<'a>(&'a self, asked: &'a Asked) -> impl Iterator<Item = &'a Seat> {
        let window = &self.engine.window;
        let seats = window.iter().filter(|(slot, seat)| {
            matches!(seat.state, State::Ready)
                && !window.is_held(*slot)
                && asked.types.as_ref().is_none_or(|types| types.iter().any(|kind| kind == seat.entry.kind()))
                && asked.filter.as_ref().is_none_or(|filter| filter.matches(&seat.entry))
        });
        seats.map(|(_, seat)| seat)
    }
}
