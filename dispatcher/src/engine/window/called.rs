//! Called: jobs that were parked for the limit of their key, and when they may come back: when the gate is open and the
//! window has no more of the key than what is leased.

use std::cmp::Reverse;
use std::sync::Arc;

use tidemill_common::api::QueueLimits;

use super::limited::{Limited, Tag, Which};
use super::{Slot, Window};
use crate::engine::recover::Unread;
use crate::engine::time::Micros;

/// Jobs of a key that are put back, and kept in the window, at a time: at least so many if there is room, at most so
/// many.
const BATCH: (usize, usize) = (16, 1_000);
/// How long jobs that were put back may take to be read, before more are.
const ON_THE_WAY_MS: u64 = 1_000;

impl Limited {
    /// How many jobs of a key are worth keeping in a window that holds so many.
    fn batch(&self, window: usize) -> usize {
        let Some(limit) = &self.limits.key else { return BATCH.1 };
        let keys = self.keys.iter().filter(|key| key.has_held()).count().max(1);
        let leased = limit.leased.map(|leased| usize::try_from(leased).unwrap_or(BATCH.1).saturating_mul(2));
        let rate = limit.per_second.map(|rate| rate as usize);
        let wanted = leased.into_iter().chain(rate).min().unwrap_or(0).clamp(BATCH.0, BATCH.1);
        wanted.min(window / 4 / keys)
    }
}

impl Window {
    /// So many jobs are parked for the limit of this key.
    pub(in crate::engine) fn park_key(&mut self, name: &str, count: u64) {
        let now = self.limited.as_ref().map_or(Micros(0), |limited| limited.now);
        let limited = self
            .limited
            .get_or_insert_with(|| Box::new(Limited::new(QueueLimits::default(), now, Unread::default())));
        let no = limited.key_no(name);
        limited.parked += count;
        if let Some(key) = limited.keys.get_mut(no) {
            key.parked += count;
        }
        limited.list_call(no);
    }

    /// Jobs that are parked for the limits of their keys.
    pub(in crate::engine) fn parked_by_key(&self) -> u64 {
        self.limited.as_ref().map_or(0, |limited| limited.parked)
    }

    /// What is held back and takes the room of others in a window for so many: of each key and type what is beyond those
    /// that are next; at most so many entries. If the mark must move, nothing is kept.
    pub(in crate::engine) fn limited_beyond(&self, window: usize, is_far: bool, most: usize) -> Vec<Slot> {
        let Some(limited) = self.limited.as_ref().filter(|_| self.admits()) else { return Vec::new() };
        let (of_key, of_type) = match is_far {
            true => (0, 0),
            false => (limited.batch(window), BATCH.1.min(window / 4 / limited.aside.len().max(1))),
        };
        let closed = limited.keys.iter().filter(|key| key.gate.is_closed());
        let held = closed.flat_map(|key| key.held_beyond(of_key));
        let aside = limited.aside.values().flat_map(|queue| queue.iter().skip(of_type).copied());
        let is_movable = |slot: &Slot| self.get(*slot).is_some_and(|seat| !seat.immovable);
        held.chain(aside).filter(is_movable).take(most).collect()
    }

    /// The key for whose limit this entry is held back.
    pub(in crate::engine) fn held_for(&self, slot: Slot) -> Option<Arc<str>> {
        let limited = self.limited.as_deref()?;
        let note = limited.noted(slot);
        let (true, Tag::Key(no)) = (note.is_held, note.key) else { return None };
        limited.keys.get(no).map(|key| Arc::clone(&key.name))
    }

    pub(in crate::engine) fn has_calls(&self) -> bool {
        self.limited.as_ref().is_some_and(|limited| !limited.calls.is_empty())
    }

    /// How many parked jobs of a key come back at a time, to a window for so many.
    pub(in crate::engine) fn call_size(&self, window: usize) -> usize {
        self.limited.as_ref().map_or(1, |limited| limited.batch(window).max(1))
    }

    /// The next key of which parked jobs come back. Not one of those that are paused.
    pub(in crate::engine) fn next_call(&mut self) -> Option<Arc<str>> {
        let paused = &self.held.paused().keys;
        let limited = self.limited.as_deref_mut()?;
        while let Some(no) = limited.calls.pop_front() {
            let now = limited.now;
            let Some(key) = limited.keys.get_mut(no) else { continue };
            key.is_listed = false;
            let is_free = key.parked > 0 && !key.gate.is_closed() && key.jobs == key.gate.leased();
            if !is_free || key.is_called || paused.contains(&*key.name) {
                continue;
            }
            if key.not_before > now {
                limited.timers.push(Reverse((key.not_before, Which::Key(no))));
                continue;
            }
            key.is_called = true;
            return Some(Arc::clone(&key.name));
        }
        None
    }

    /// The database did not take the call: it is tried again.
    pub(in crate::engine) fn call_refused(&mut self, name: &str) {
        let Some(limited) = self.limited.as_deref_mut() else { return };
        if let Some(no) = limited.keys.find(name) {
            if let Some(key) = limited.keys.get_mut(no) {
                key.is_called = false;
            }
            limited.list_call(no);
        }
    }

    /// So many jobs of the key are in the log again, and there may be more or not.
    pub(in crate::engine) fn key_unparked(&mut self, name: &str, count: u64, is_all: bool) {
        let Some(limited) = self.limited.as_deref_mut() else { return };
        let Some(no) = limited.keys.find(name) else { return };
        let not_before = limited.now.plus_ms(if limited.limits.key.is_some() { ON_THE_WAY_MS } else { 0 });
        let Some(key) = limited.keys.get_mut(no) else { return };
        let gone = if is_all { key.parked } else { count.min(key.parked) };
        limited.parked -= gone;
        key.parked -= gone;
        key.is_called = false;
        key.not_before = not_before;
        limited.timers.push(Reverse((not_before, Which::Key(no))));
        limited.list_call(no);
        limited.keys.drop_idle(no, limited.since, limited.now);
        if limited.parked == 0 && limited.limits.is_empty() {
            self.limited = None;
        }
    }

    /// Other jobs are paused than before: what was not called back for that may be now.
    pub(in crate::engine) fn call_again(&mut self) {
        let Some(limited) = self.limited.as_deref_mut() else { return };
        for no in limited.keys.numbers() {
            limited.list_call(no);
        }
    }
}
