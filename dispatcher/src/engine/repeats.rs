//! Repeats: the last numbered grabs of each worker instance. An answer may have been lost: asked again, it gets the same
//! jobs, not others, also from a new owner, as far as the journal and the waiting room know.

use std::collections::{HashMap, VecDeque};

use serde::Deserialize;
use serde_json::Value;
use tidemill_common::api::{self, Outcome, Previous};
use tidemill_common::lease::Lease;
use uuid::Uuid;

use super::Engine;
use super::answer::{Granted, RequestId};
use super::entry::{Entry, Event};
use super::flush::{Unit, WaitingLease};
use super::grab::Grab;
use super::record::{EntryKey, LeaseKey};
use super::time::Micros;
use super::window::{Slot, State};

/// Instances whose last grabs are remembered, and how many of each: one may have several under way.
const INSTANCES: usize = 10_000;
const GRABS: usize = 4;
/// How long a repeated grab may wait for a new owner to read its jobs again.
const READ_MS: u64 = 5_000;

/// The last numbered grabs of each worker instance, the newest first, and the leases they got.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    last: HashMap<Uuid, VecDeque<(u64, Vec<Lease>)>>,
    order: VecDeque<Uuid>,
}

impl Repeats {
    pub(super) fn remember(&mut self, instance: Uuid, number: u64, leases: Vec<Lease>) {
        let grabs = self.last.entry(instance).or_default();
        if grabs.is_empty() {
            self.order.push_back(instance);
        }
        grabs.retain(|(other, _)| *other != number);
        grabs.push_front((number, leases));
        grabs.truncate(GRABS);
        if self.order.len() > INSTANCES
            && let Some(oldest) = self.order.pop_front()
        {
            self.last.remove(&oldest);
        }
    }

    /// The grab remembered last got these, too.
    pub(super) fn add(&mut self, instance: Uuid, more: impl Iterator<Item = Lease>) {
        if let Some((_, leases)) = self.last.get_mut(&instance).and_then(VecDeque::front_mut) {
            leases.extend(more);
        }
    }

    /// The journal does not name the queue: it is this one.
    pub(super) fn of_queue(mut self, queue_id: i32) -> Self {
        let leases = self.last.values_mut().flatten().flat_map(|(_, leases)| leases);
        leases.for_each(|lease| lease.queue_id = queue_id);
        self
    }

    /// What this grab got before, if it is a repetition.
    pub(super) fn of(&self, grab: &Grab) -> &[Lease] {
        let grabs = self.last.get(&grab.holder.instance).into_iter().flatten();
        let mut same = grabs.filter(|(number, _)| grab.number == Some(*number));
        same.next().map_or(&[], |(_, leases)| leases)
    }

    /// These leases live in the waiting room since the flush that granted them.
    pub(super) fn lent(&mut self, instance: Uuid, numbers: impl Fn(i64) -> bool) {
        let leases = self.last.get_mut(&instance).into_iter().flatten().flat_map(|(_, leases)| leases);
        leases.filter(|lease| numbers(lease.number)).for_each(|lease| lease.transactional = true);
    }
}

/// A repeated grab whose jobs are not read yet.
#[derive(Debug)]
pub(super) struct Early {
    pub(super) request: RequestId,
    grab: Grab,
    results: Vec<(Option<Lease>, Outcome)>,
    pub(super) until: Micros,
}

/// What the waiting room has of a lease: one of `again` of `tidemill.journal_write`.
#[derive(Debug, Deserialize)]
pub(super) struct There {
    until: i64,
    time: i64,
    previous: Option<Value>,
    #[serde(rename = "type")]
    kind: Option<String>,
    data: Option<String>,
    x1: Option<String>,
    x2: Option<String>,
    x3: Option<String>,
    x4: Option<String>,
    origin: Option<api::Origin>,
}

impl Engine {
    /// A grab whose number its instance used before gets the same jobs, as far as they are still leased: those in the
    /// window; those in the waiting room are asked for with the unit.
    pub(super) fn repeated(&self, unit: &mut Unit, grab: &Grab) -> Vec<(Slot, LeaseKey)> {
        let mut here = Vec::new();
        for lease in self.repeats.of(grab) {
            let key = LeaseKey { epoch: lease.epoch, number: lease.number };
            let slot = self.window.find(EntryKey { job: lease.job, put: lease.put });
            match slot.and_then(|slot| Some((slot, &self.window.get(slot)?.state))) {
                Some((slot, State::Granting(held) | State::Leased(held, _)))
                    if held.lease == key && !held.transactional =>
                {
                    here.push((slot, key));
                }
                // It is there when the unit is committed, or was before.
                Some((_, State::Granting(held) | State::Moving(Some(held)))) if held.lease == key => {
                    ask(unit, *lease);
                }
                Some(_) => {}
                None if self.finished.get(key).is_some() => {}
                None => ask(unit, *lease),
            }
        }
        here
    }

    /// The jobs of leases that live in the waiting room.
    pub(super) fn granted_there(&self, lease: Lease, there: There) -> Granted {
        let There { until, time, previous, kind, data, x1, x2, x3, x4, origin } = there;
        let event = Event { kind, data, extra: [x1, x2, x3, x4] };
        let previous = previous.and_then(|previous| serde_json::from_value::<Previous>(previous).ok());
        let mut entry = Entry::new(EntryKey { job: lease.job, put: lease.put }, Micros(time), event);
        entry.previous = previous;
        Granted {
            lease,
            ends_at: Micros(until),
            inserted_at: entry.inserted_at,
            max_attempts: self.max_attempts(&entry),
            timeout_ms: entry.timeout_ms,
            previous: entry.previous,
            progress: self.progress.of(lease.job),
            origin: origin.and_then(|origin| origin.try_into().ok()),
            event: entry.event,
        }
    }

    /// Does this grab repeat one whose jobs a new owner has not read yet? Then it waits for that.
    pub(super) fn is_early(&self, grab: &Grab) -> bool {
        self.repeats.of(grab).iter().any(|lease| {
            let key = LeaseKey { epoch: lease.epoch, number: lease.number };
            self.fold.holds(EntryKey { job: lease.job, put: lease.put }, key, self.now)
        })
    }

    pub(super) fn come_early(
        &mut self,
        request: RequestId,
        grab: Grab,
        results: Vec<(Option<Lease>, Outcome)>,
    ) {
        self.early.push(Early { request, grab, results, until: self.now.plus_ms(READ_MS) });
    }

    /// Takes those whose jobs are read by now, or that have waited long enough.
    pub(super) fn serve_early(&mut self) {
        for early in std::mem::take(&mut self.early) {
            if self.is_early(&early.grab) && early.until > self.now {
                self.early.push(early);
            } else {
                self.grab_now(early.request, early.grab, &early.results);
            }
        }
    }
}

fn ask(unit: &mut Unit, lease: Lease) {
    unit.cold.again.push(WaitingLease::from(&lease));
    unit.again.push(lease);
}
