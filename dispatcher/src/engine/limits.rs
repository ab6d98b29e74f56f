//! Limits: how many jobs of the queue, of a type, of a key are leased at once, and how many a second. Leases are counted
//! from the moment they are picked until their end is committed, wherever they live; who finds everything at its limit
//! waits like one who finds nothing.

use std::collections::HashSet;

use tidemill_common::api::QueueLimits;

use super::Engine;
use super::flush::{Unit, Unpark};
use super::record::LeaseKey;
use super::time::Micros;

/// Keys of which parked jobs are put back by one flush.
const KEYS: usize = 100;

/// A lease that lives in the waiting room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LentLease {
    pub job: i64,
    pub lease: LeaseKey,
    pub kind: String,
    pub key: Option<String>,
}

impl Engine {
    /// From now on these limits are in force. What is leased beyond them stays; nothing more is until they let it
    /// through.
    pub fn set_limits(&mut self, limits: &QueueLimits) {
        if self.window.limits().map_or_else(|| limits.is_empty(), |old| old == limits) {
            return;
        }
        self.window.set_limits(limits, self.now, self.fold.unread());
        self.window.call_again();
        self.serve_polls();
    }

    /// Must the leases of the waiting room be counted, before anything is leased that a limit of leases concerns? A
    /// reading that began after this was true is the answer: see [`Engine::count_lent`].
    #[must_use]
    pub fn wants_lent(&self) -> bool {
        self.window.wants_lent()
    }

    /// The leases that live in the waiting room, those of former owners too.
    pub fn count_lent(&mut self, leases: Vec<LentLease>) {
        self.window.count_lent(leases);
        self.serve_polls();
    }

    /// When to ask for [`Engine::survey`]; `None`: there is no use in it.
    #[must_use]
    pub fn survey_at(&self) -> Option<Micros> {
        self.window.survey_at()
    }

    /// Jobs whose leases are counted in the waiting room, if it is time to look which of them are still there. A worker's
    /// own transaction ends them without a word.
    pub fn survey(&mut self) -> Option<Vec<(i64, LeaseKey)>> {
        self.window.survey()
    }

    /// Of the leases that a survey was to look for, these are still there, in a reading that began after it was asked for.
    pub fn surveyed(&mut self, asked: &[(i64, LeaseKey)], there: &HashSet<LeaseKey>) {
        for (_, lease) in asked.iter().filter(|(_, lease)| !there.contains(lease)) {
            self.window.end_lent(*lease);
        }
        self.serve_polls();
    }

    /// Parks what waits for limits and takes the room of others.
    pub(super) fn park_limited(&mut self, unit: &mut Unit) {
        let slots = self.window.limited_beyond(self.capacity(), self.is_far(), self.chunk());
        self.park_all(unit, slots);
    }

    /// How many jobs the window holds if they are as large as those it has.
    fn capacity(&self) -> usize {
        let (jobs, bytes) = self.window_limits();
        let weight = self.window.bytes() / self.window.len().max(1);
        jobs.min(bytes / weight.max(1))
    }

    /// Puts jobs of keys back that are not at their limits any more and of which the window has none.
    pub(super) fn call_back_keys(&mut self, unit: &mut Unit) {
        if !self.window.has_calls() || self.window.paused().queue {
            return;
        }
        let limit = self.window.call_size(self.capacity());
        while unit.cold.unpark.len() < KEYS
            && let Some(key) = self.window.next_call()
        {
            let (key, kind) = (Some(String::from(&*key)), String::new());
            unit.cold.unpark.push(Unpark { kind, key, limit, without: Vec::new() });
        }
    }
}
