//! Grab: ready entries become leases; who finds none may wait.

use std::sync::Arc;

use rand::Rng;
use tidemill_common::api::{Outcome, PreviousEnd};
use tidemill_common::lease::Lease;

use super::Engine;
use super::answer::{Answered, Granted, Reply, ReplyKind, RequestId};
use super::flush::{Due, Effect, Failure, HolderItem, LeaseItem, Over, Unit, Wait};
use super::polls::Poll;
use super::record::{EntryKey, Holder, LeaseKey, LeasedEntry, Record, Resolution};
use super::search::Filter;
use super::time::Micros;
use super::window::{Held, Rank, Slot, State};

/// How long a search may take that does not wait for jobs.
const SEARCH_MS: u64 = 5_000;
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
    /// Only jobs like this.
    pub filter: Option<Box<Filter>>,
    pub holder: Arc<Holder>,
}

impl Engine {
    /// Takes the results that came along, then grabs. Answered when both are committed; with nothing to give, after
    /// `wait_ms`, but results never wait for jobs.
    pub fn grab(&mut self, request: RequestId, grab: Grab, results: &[(Option<Lease>, Outcome)]) {
        if self.is_early(&grab) {
            self.come_early(request, grab, results.to_vec());
        } else {
            self.grab_now(request, grab, results);
        }
    }

    pub(super) fn grab_now(&mut self, request: RequestId, grab: Grab, results: &[(Option<Lease>, Outcome)]) {
        let mut unit = Unit::default();
        let answers = self.finish_all(&mut unit, results);
        self.replace_poll(&grab);
        let again = self.repeated(&mut unit, &grab);
        let repeats = !again.is_empty() || !unit.again.is_empty();
        self.relief.asked(grab.types.as_deref(), self.now);
        let (mut picked, mut rest) = (0, None);
        if !repeats {
            (picked, rest) = self.pick_wanted(&mut unit, &grab);
            if picked < grab.max {
                self.relief.was_hungry(self.now);
                self.call_back(|kind| {
                    grab.types.as_ref().is_none_or(|types| types.iter().any(|t| t == kind))
                });
            }
        }
        let looks_on = rest.is_some() && self.window.admits();
        let waits = grab.wait_ms > 0 || looks_on;
        if !repeats && picked == 0 && results.is_empty() && waits {
            let answer_by = self.now.plus_ms(grab.wait_ms);
            let deadline = if looks_on { answer_by.max(self.now.plus_ms(SEARCH_MS)) } else { answer_by };
            self.polls.insert(Poll { request, grab, deadline, answer_by, scan: rest });
            self.window.watch(self.polls.is_searched());
            return;
        }
        unit.reply = Some(Reply { request, kind: ReplyKind::Grab { again, results: answers } });
        self.submit(unit);
    }

    /// The request's connection is gone.
    pub fn hang_up(&mut self, request: RequestId) {
        self.early.retain(|early| early.request != request);
        if let Some(number) = self.polls.of_request(request) {
            self.polls.remove(number);
        }
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
        for poll in self.polls.take_all() {
            self.answers.push((poll.request, Answered::Grab { jobs: Vec::new(), results: Vec::new() }));
        }
    }

    /// The same grab still waits: its first connection is gone, or the worker is about to drop it.
    fn replace_poll(&mut self, grab: &Grab) {
        if let Some(old) = self.polls.same(grab).and_then(|number| self.polls.remove(number)) {
            self.answers.push((old.request, Answered::Grab { jobs: Vec::new(), results: Vec::new() }));
        }
    }

    /// Leases what is ready and wanted, into the unit: how many, and where to go on searching.
    fn pick_wanted(&mut self, unit: &mut Unit, grab: &Grab) -> (usize, Option<Rank>) {
        match &grab.filter {
            None => (self.pick(unit, grab, None), None),
            Some(filter) => {
                self.window.show_held();
                let mut from = Rank::FIRST;
                while self.window.admits() {
                    let found = self.search(grab, filter, from);
                    let picked = self.pick(unit, grab, Some(&found.slots));
                    match found.slots.first() {
                        // It was found to wait for the limit of its key.
                        Some(first) if picked == 0 => from = self.window.rank(*first),
                        _ => return (picked, found.rest),
                    }
                }
                (0, Some(from))
            }
        }
    }

    /// Leases what is ready (of these, if given), into the unit; how many.
    fn pick(&mut self, unit: &mut Unit, grab: &Grab, chosen: Option<&[Slot]>) -> usize {
        let wanted_ms = grab.lease_ms.unwrap_or(self.settings.lease_ms);
        let nonce: u64 = self.rng.random();
        let mut run = Run { first: self.next_lease, ms: wanted_ms, entries: Vec::new() };
        let (mut leases, mut tokens): (Vec<(EntryKey, LeaseKey)>, Vec<Lease>) = (Vec::new(), Vec::new());
        let mut chosen = chosen.map(|slots| slots.iter());
        while leases.len() < grab.max {
            let next = match &mut chosen {
                None => self.window.next_leasable(grab.types.as_deref()),
                Some(chosen) => {
                    let window = &mut self.window;
                    chosen.find(|slot| window.take_leasable(**slot)).copied()
                }
            };
            let Some(slot) = next else { break };
            let lease = LeaseKey { epoch: self.epoch, number: self.next_lease };
            let Some(seat) = self.window.get_mut(slot) else { break };
            let ms = seat.entry.lease_ms(wanted_ms);
            if ms != run.ms {
                let next = Run { first: lease.number, ms, entries: Vec::new() };
                unit.records.extend(std::mem::replace(&mut run, next).record(nonce, grab));
            }
            self.next_lease += 1;
            seat.entry.attempt += 1;
            seat.state = State::Granting(Held {
                lease,
                nonce,
                since: self.now,
                until: Micros(i64::MAX),
                holder: Arc::clone(&grab.holder),
                transactional: grab.transactional,
            });
            run.entries.push(LeasedEntry { entry: seat.entry.key, attempt: seat.entry.attempt });
            if grab.transactional {
                unit.cold.wait.push(Wait {
                    put: seat.entry.key.put + 1,
                    attempt: seat.entry.attempt,
                    kind: "leased",
                    due: Due::After(ms),
                    lease: Some(LeaseItem {
                        epoch: lease.epoch,
                        no: lease.number,
                        nonce: nonce.cast_signed(),
                    }),
                    over: seat.entry.timeout_ms.map(|timeout_ms| Over::After(timeout_ms.get())),
                    parked_key: None,
                    holder: Some(HolderItem::from(&*grab.holder)),
                    previous: seat.entry.previous.as_ref().and_then(|p| serde_json::to_value(p).ok()),
                    job: (&seat.entry).into(),
                });
                unit.effects.push(Effect::Lend { slot, ms });
            } else {
                unit.effects.push(Effect::Grant { slot, ms });
            }
            leases.push((seat.entry.key, lease));
            if grab.number.is_some() {
                tokens.push(Lease {
                    transactional: grab.transactional,
                    queue_id: self.queue_id,
                    epoch: self.epoch,
                    number: lease.number,
                    job: seat.entry.key.job,
                    put: seat.entry.key.put,
                    attempt: seat.entry.attempt,
                    nonce,
                });
            }
        }
        let count = leases.len();
        if count == 0 {
            return 0;
        }
        unit.records.extend(run.record(nonce, grab));
        if grab.transactional {
            for (key, lease) in leases {
                unit.resolve(Resolution::Lent, key, lease);
            }
        }
        if let Some(number) = grab.number {
            self.repeats.remember(grab.holder.instance, number, tokens);
        }
        count
    }

    /// Gives ready entries to those who wait: first to those who search, then first come first served.
    pub(super) fn serve_polls(&mut self) {
        self.window.watch(self.polls.is_searched());
        if self.polls.is_empty() {
            return;
        }
        if self.polls.is_searched() {
            self.serve_searches();
        }
        while self.window.ready() > 0
            && let Some(number) = self.polls.first_served(&self.window)
        {
            self.serve(number, None);
        }
        self.call_back_for_polls();
    }

    /// Gives one who waits what is ready (of these, if given).
    pub(super) fn serve(&mut self, number: u64, chosen: Option<&[Slot]>) {
        let Some(poll) = self.polls.remove(number) else { return };
        self.relief.asked(poll.grab.types.as_deref(), self.now);
        let mut unit = Unit::default();
        if self.pick(&mut unit, &poll.grab, chosen) == 0 {
            return self.polls.wait_on(number, poll); // what there is waits for limits
        }
        let kind = ReplyKind::Grab { again: Vec::new(), results: Vec::new() };
        unit.reply = Some(Reply { request: poll.request, kind });
        self.submit(unit);
    }

    pub(super) fn expire_polls(&mut self) {
        while let Some(poll) = self.polls.expired(self.now) {
            self.relief.asked(poll.grab.types.as_deref(), self.now);
            self.answers.push((poll.request, Answered::Grab { jobs: Vec::new(), results: Vec::new() }));
        }
    }

    /// Ends the leases whose time is over.
    pub(super) fn end_leases(&mut self) {
        while let Some((slot, number)) = self.ends.pop(self.now) {
            self.end_lease(slot, number);
        }
    }

    /// The lease in this slot ended without a result, unless it was extended or finished in the meantime.
    fn end_lease(&mut self, slot: Slot, number: i64) {
        let Some(seat) = self.window.get_mut(slot) else { return };
        let State::Leased(held, extending) = &seat.state else { return };
        if held.lease.number != number {
            return;
        }
        if held.until > self.now {
            let until = held.until;
            self.ends.push(until, slot, number, &self.window);
            return;
        }
        if *extending > 0 {
            return; // the commit under way decides, and looks again
        }
        let held = held.clone();
        seat.entry.previous = Some(super::previous(&held.holder, PreviousEnd::Expired, held.until));
        let code = self.cancels.code(seat.entry.key.job);
        if code.is_none()
            && seat.entry.attempt >= seat.entry.max_attempts.unwrap_or(self.settings.max_attempts)
        {
            seat.state = State::Finishing(Some(held.clone()));
            self.exhaust(slot, Some(held));
            return;
        }
        let mut unit = Unit::default();
        unit.cold.fail.push(Failure {
            job: seat.entry.key.job,
            attempt: seat.entry.attempt,
            reason: "expired",
            message: seat
                .entry
                .why_over(held.since, held.until)
                .unwrap_or_else(|| "the lease ended without a result".to_owned()),
            holder: Some(HolderItem::from(&*held.holder)),
        });
        match code {
            Some(code) => self.end_cancelled(&mut unit, slot, Some(held), code),
            None => self.window.make_ready(slot),
        }
        self.submit(unit);
    }
}

/// Leases of one length, numbered one after the other: what one record says.
struct Run {
    first: i64,
    ms: u64,
    entries: Vec<LeasedEntry>,
}

impl Run {
    fn record(self, nonce: u64, grab: &Grab) -> Option<Record> {
        let Self { first, ms, entries } = self;
        let (holder, request) = ((*grab.holder).clone(), grab.number);
        (!entries.is_empty()).then_some(Record::Leased { first, nonce, ms, holder, request, entries })
    }
}
