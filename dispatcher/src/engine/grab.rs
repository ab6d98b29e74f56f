//! Grab: ready entries become leases; who finds none may wait.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use rand::Rng;
use tidemill_common::api::{Outcome, PreviousEnd};
use tidemill_common::lease::Lease;
use uuid::Uuid;

use super::Engine;
use super::answer::{Answered, Granted, Reply, ReplyKind, RequestId};
use super::flush::{Effect, Failure, HolderItem, LeaseItem, Unit, Wait};
use super::record::{Holder, LeaseKey, LeasedEntry, Record, Resolution};
use super::time::Micros;
use super::window::{Held, Slot, State};

/// Instances whose last grab is remembered.
const REPEATS: usize = 10_000;

/// A worker asks for jobs.
#[derive(Debug, Clone)]
pub struct Grab {
    /// `None`: all types.
    pub types: Option<Vec<String>>,
    pub max: usize,
    /// `None`: the queue's setting.
    pub lease_ms: Option<u64>,
    /// How long to wait for the first job.
    pub wait_ms: u64,
    pub transactional: bool,
    /// Number of the request within the worker's run; repeated, it gets the same jobs.
    pub number: Option<u64>,
    pub holder: Arc<Holder>,
}

/// A grab that found nothing and waits.
#[derive(Debug)]
pub(super) struct Poll {
    pub(super) request: RequestId,
    grab: Grab,
    pub(super) deadline: Micros,
}

/// The last numbered grab of each worker instance, and the leases it got.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    last: HashMap<Uuid, (u64, Vec<(Slot, LeaseKey)>)>,
    order: VecDeque<Uuid>,
}

impl Repeats {
    fn remember(&mut self, instance: Uuid, number: u64, leases: Vec<(Slot, LeaseKey)>) {
        if self.last.insert(instance, (number, leases)).is_none() {
            self.order.push_back(instance);
        }
        if self.order.len() > REPEATS
            && let Some(oldest) = self.order.pop_front()
        {
            self.last.remove(&oldest);
        }
    }
}

impl Engine {
    /// Takes the results that came along, then grabs. Answered when both are committed; with nothing to give, after
    /// `wait_ms`, but results never wait for jobs.
    pub fn grab(&mut self, request: RequestId, grab: Grab, results: &[(Option<Lease>, Outcome)]) {
        let mut unit = Unit::default();
        let answers = self.finish_all(&mut unit, results);
        self.replace_poll(&grab);
        let again = self.repeated(&grab);
        let none = again.is_empty() && self.pick(&mut unit, &grab) == 0;
        if none && results.is_empty() && grab.wait_ms > 0 {
            let deadline = self.now.plus_ms(grab.wait_ms);
            self.polls.push_back(Poll { request, grab, deadline });
            return;
        }
        unit.reply = Some(Reply { request, kind: ReplyKind::Grab { again, results: answers } });
        self.submit(unit);
    }

    /// The request's connection is gone.
    pub fn hang_up(&mut self, request: RequestId) {
        self.polls.retain(|poll| poll.request != request);
    }

    /// Nobody took these jobs: their leases are given back, the attempts do not count.
    pub fn undelivered(&mut self, jobs: &[Granted]) {
        let mut unit = Unit::default();
        for job in jobs {
            self.finish(&mut unit, Some(&job.lease), &Outcome::Decline);
        }
        self.submit(unit);
    }

    /// Ends all waiting with empty answers: the owner is about to leave.
    pub fn close_polls(&mut self) {
        for poll in std::mem::take(&mut self.polls) {
            self.answers.push((poll.request, Answered::Grab { jobs: Vec::new(), results: Vec::new() }));
        }
    }

    /// The same grab still waits: its first connection is gone, or the worker is about to drop it.
    fn replace_poll(&mut self, grab: &Grab) {
        let same = |poll: &Poll| {
            poll.grab.number.is_some()
                && poll.grab.number == grab.number
                && poll.grab.holder.instance == grab.holder.instance
        };
        if let Some(old) = self.polls.iter().position(same).and_then(|index| self.polls.remove(index)) {
            self.answers.push((old.request, Answered::Grab { jobs: Vec::new(), results: Vec::new() }));
        }
    }

    /// A grab whose number its instance used before gets the same jobs, as far as they are still leased.
    fn repeated(&self, grab: &Grab) -> Vec<(Slot, LeaseKey)> {
        let Some((number, leases)) = self.repeats.last.get(&grab.holder.instance) else { return Vec::new() };
        if grab.number != Some(*number) {
            return Vec::new();
        }
        let still_leased = |(slot, lease): &&(Slot, LeaseKey)| {
            self.window.get(*slot).is_some_and(|seat| match &seat.state {
                State::Granting(held) | State::Leased(held, _) => held.lease == *lease,
                State::Ready | State::Finishing(_) => false,
            })
        };
        leases.iter().filter(still_leased).copied().collect()
    }

    /// Leases what is ready, into the unit; how many.
    fn pick(&mut self, unit: &mut Unit, grab: &Grab) -> usize {
        let ms = grab.lease_ms.unwrap_or(self.settings.lease_ms);
        let first = self.next_lease;
        let nonce: u64 = self.rng.random();
        let (mut leased, mut leases) = (Vec::new(), Vec::new());
        while leases.len() < grab.max {
            let Some(slot) = self.window.next_ready(grab.types.as_deref()) else { break };
            let lease = LeaseKey { epoch: self.epoch, number: self.next_lease };
            let Some(seat) = self.window.get_mut(slot) else { break };
            self.next_lease += 1;
            seat.entry.attempt += 1;
            seat.state = State::Granting(Held {
                lease,
                nonce,
                until: Micros(i64::MAX),
                holder: Arc::clone(&grab.holder),
                transactional: grab.transactional,
            });
            leased.push(LeasedEntry { entry: seat.entry.key, attempt: seat.entry.attempt });
            if grab.transactional {
                unit.cold.wait.push(Wait {
                    put: seat.entry.key.put + 1,
                    attempt: seat.entry.attempt,
                    kind: "leased",
                    due_ms: ms,
                    lease: Some(LeaseItem {
                        epoch: lease.epoch,
                        no: lease.number,
                        nonce: nonce.cast_signed(),
                    }),
                    holder: Some(HolderItem::from(&*grab.holder)),
                    previous: None,
                    job: (&seat.entry).into(),
                });
                unit.effects.push(Effect::Lend { slot, ms });
            } else {
                unit.effects.push(Effect::Grant { slot, ms });
            }
            leases.push((slot, lease));
        }
        let count = leases.len();
        if count == 0 {
            return 0;
        }
        let keys: Vec<_> = leased.iter().map(|l| l.entry).collect();
        let holder = (*grab.holder).clone();
        unit.records.push(Record::Leased { first, nonce, ms, holder, entries: leased });
        if grab.transactional {
            for (key, (_, lease)) in keys.into_iter().zip(&leases) {
                unit.resolve(Resolution::Lent, key, *lease);
            }
        }
        if let Some(number) = grab.number {
            self.repeats.remember(grab.holder.instance, number, leases);
        }
        count
    }

    /// Gives ready entries to those who wait, first come first served.
    pub(super) fn serve_polls(&mut self) {
        let mut index = 0;
        while index < self.polls.len() && self.window.ready() > 0 {
            let grab = self.polls[index].grab.clone();
            let mut unit = Unit::default();
            if self.pick(&mut unit, &grab) == 0 {
                index += 1;
                continue;
            }
            let Some(poll) = self.polls.remove(index) else { break };
            let kind = ReplyKind::Grab { again: Vec::new(), results: Vec::new() };
            unit.reply = Some(Reply { request: poll.request, kind });
            self.submit(unit);
        }
    }

    pub(super) fn expire_polls(&mut self) {
        let now = self.now;
        let answers = &mut self.answers;
        self.polls.retain(|poll| {
            if poll.deadline > now {
                return true;
            }
            answers.push((poll.request, Answered::Grab { jobs: Vec::new(), results: Vec::new() }));
            false
        });
    }

    /// The lease in this slot ended without a result, unless it was extended or finished in the meantime.
    pub(super) fn end_lease(&mut self, slot: Slot, number: i64) {
        let Some(seat) = self.window.get_mut(slot) else { return };
        let State::Leased(held, extending) = &seat.state else { return };
        if held.lease.number != number {
            return;
        }
        if held.until > self.now {
            self.ends.push(std::cmp::Reverse((held.until, slot, number)));
            return;
        }
        if *extending > 0 {
            return; // the commit under way decides, and looks again
        }
        let held = held.clone();
        seat.entry.previous = Some(super::previous(&held.holder, PreviousEnd::Expired, held.until));
        if seat.entry.attempt >= seat.entry.max_attempts.unwrap_or(self.settings.max_attempts) {
            seat.state = State::Finishing(Some(held.clone()));
            self.exhaust(slot, Some(held));
            return;
        }
        let mut unit = Unit::default();
        unit.cold.fail.push(Failure {
            job: seat.entry.key.job,
            attempt: seat.entry.attempt,
            reason: "expired",
            message: "the lease ended without a result".to_owned(),
            holder: Some(HolderItem::from(&*held.holder)),
        });
        self.window.make_ready(slot);
        self.submit(unit);
    }
}
