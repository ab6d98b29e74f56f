//! Finished: leases that were finished of late, and how: what a repeated result is answered from.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Deserialize;

use super::Map;
use super::record::{LeaseKey, Resolution};

/// Ids of new jobs that are remembered together, 8 bytes each.
const IDS: usize = 1_000_000;

/// How a lease was finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finished {
    Resolved(Resolution),
    Released,
}

/// The jobs that exist instead of a replaced one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Children {
    pub count: u64,
    /// All of them, in the order given, or none: of a streamed replace, or forgotten.
    pub ids: Arc<[i64]>,
}

impl Children {
    pub(super) fn new(ids: Vec<i64>) -> Self {
        Self { count: ids.len() as u64, ids: ids.into() }
    }
}

/// What only the database knew when a flush was written: `j_note` of its journal row.
#[derive(Debug, Default, Deserialize)]
pub struct Note {
    /// Of the row's replaced entries, in their order, the ids of their new jobs.
    #[serde(default)]
    pub(super) ids: VecDeque<Vec<i64>>,
    /// Leases finished in the waiting room.
    #[serde(default)]
    pub(super) finished: Vec<FinishedThere>,
}

/// Epoch and number of the lease, the outcome, and of a replace the ids or (if it was streamed) the number of new jobs.
#[derive(Debug, Deserialize)]
pub(super) struct FinishedThere(pub(super) i64, pub(super) i64, pub(super) Box<str>, pub(super) Option<New>);

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum New {
    Ids(Vec<i64>),
    Count(u64),
}

impl FinishedThere {
    pub(super) fn read(self) -> Option<(LeaseKey, Finished, Option<Children>)> {
        let Self(epoch, number, outcome, new) = self;
        let how = match &*outcome {
            "complete" => Finished::Resolved(Resolution::Completed),
            "temp_fail" => Finished::Resolved(Resolution::Retried),
            "perm_fail" => Finished::Resolved(Resolution::Failed),
            "replace" => Finished::Resolved(Resolution::Replaced),
            "decline" => Finished::Released,
            "cancelled" => Finished::Resolved(Resolution::Cancelled),
            _ => return None,
        };
        let children = new.map(|new| match new {
            New::Ids(ids) => Children::new(ids),
            New::Count(count) => Children { count, ids: Arc::default() },
        });
        Some((LeaseKey { epoch, number }, how, children))
    }
}

/// The last so many.
#[derive(Debug, Default)]
pub(super) struct FinishedLeases {
    limit: usize,
    /// Of this owner's epoch, whose numbers are given out one after the other: those of the last `limit` numbers, from
    /// `first` on. Nearly all, and they need no hash.
    epoch: i64,
    first: i64,
    recent: VecDeque<Option<Finished>>,
    /// Those of earlier owners, and those that took very long, oldest first.
    others: Map<LeaseKey, Finished>,
    order: VecDeque<LeaseKey>,
    children: Map<LeaseKey, Children>,
    /// Whose children have ids, oldest first, and how many ids these are.
    with_ids: VecDeque<LeaseKey>,
    ids: usize,
}

impl FinishedLeases {
    /// Remembers the last `limit` of an owner with this epoch.
    pub(super) fn new(limit: usize, epoch: i64) -> Self {
        Self { limit, epoch, ..Self::default() }
    }

    pub(super) fn get(&self, lease: LeaseKey) -> Option<Finished> {
        match self.place(lease) {
            Some(place) => self.recent.get(place).copied().flatten(),
            None => self.others.get(&lease).copied(),
        }
    }

    /// Its place among the recent ones, if it belongs there.
    fn place(&self, lease: LeaseKey) -> Option<usize> {
        let place = (lease.epoch == self.epoch).then(|| lease.number - self.first)?;
        usize::try_from(place).ok()
    }

    pub(super) fn children(&self, lease: LeaseKey) -> Option<&Children> {
        self.children.get(&lease)
    }

    pub(super) fn remember(&mut self, lease: LeaseKey, how: Finished) {
        let Some(place) = self.place(lease) else { return self.remember_other(lease, how) };
        if place >= self.recent.len() {
            self.recent.resize(place + 1, None);
        }
        if let Some(seat) = self.recent.get_mut(place) {
            *seat = Some(how);
        }
        while self.recent.len() > self.limit {
            self.recent.pop_front();
            self.forget_children(LeaseKey { epoch: self.epoch, number: self.first });
            self.first += 1;
        }
    }

    fn remember_other(&mut self, lease: LeaseKey, how: Finished) {
        if self.others.insert(lease, how).is_none() {
            self.order.push_back(lease);
        }
        if self.order.len() > self.limit
            && let Some(oldest) = self.order.pop_front()
        {
            self.others.remove(&oldest);
            self.forget_children(oldest);
        }
    }

    fn forget_children(&mut self, lease: LeaseKey) {
        if !self.children.is_empty() {
            self.children.remove(&lease);
        }
    }

    /// The job of this lease was replaced by these.
    pub(super) fn remember_children(&mut self, lease: LeaseKey, children: Children) {
        self.remember(lease, Finished::Resolved(Resolution::Replaced));
        if self.get(lease).is_none() {
            return;
        }
        if !children.ids.is_empty() {
            self.ids += children.ids.len();
            self.with_ids.push_back(lease);
        }
        self.children.insert(lease, children);
        while self.ids > IDS
            && let Some(oldest) = self.with_ids.pop_front()
        {
            if let Some(children) = self.children.get_mut(&oldest) {
                self.ids -= children.ids.len();
                children.ids = Arc::default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOW: Finished = Finished::Released;

    fn lease(epoch: i64, number: i64) -> LeaseKey {
        LeaseKey { epoch, number }
    }

    #[test]
    fn the_last_numbers_are_remembered_and_whatever_took_longer() {
        let mut finished = FinishedLeases::new(3, 7);
        for number in [2, 5, 4, 6] {
            finished.remember(lease(7, number), HOW);
        }
        // Of three numbers back, and of those only the finished ones.
        let known: Vec<i64> = (0..9).filter(|n| finished.get(lease(7, *n)).is_some()).collect();
        assert_eq!(known, [4, 5, 6]);
        finished.remember(lease(7, 1), HOW);
        finished.remember(lease(6, 900), HOW);
        assert_eq!(finished.get(lease(7, 1)), Some(HOW));
        assert_eq!(finished.get(lease(6, 900)), Some(HOW));
        assert_eq!(finished.get(lease(8, 1)), None);
        for number in 901..904 {
            finished.remember(lease(6, number), HOW);
        }
        assert_eq!(finished.get(lease(7, 1)), None);
        assert_eq!(finished.get(lease(7, 6)), Some(HOW));
    }

    #[test]
    fn children_are_forgotten_with_their_lease() {
        let mut finished = FinishedLeases::new(2, 1);
        finished.remember_children(lease(1, 1), Children::new(vec![10, 11]));
        finished.remember(lease(1, 2), HOW);
        assert_eq!(finished.children(lease(1, 1)).map(|c| c.count), Some(2));
        finished.remember(lease(1, 3), HOW);
        assert_eq!(finished.children(lease(1, 1)), None);
        assert_eq!(finished.get(lease(1, 1)), None);
    }
}
