//! Cancel: first it is written down which jobs are to end, in the waiting room and by a snapshot of the log; then the
//! window is swept. A ready entry ends at once; one that somebody works on is told, and ends when nobody does any more.

use serde::{Deserialize, Serialize};

use super::Engine;
use super::answer::{Answered, Reply, ReplyKind, RequestId};
use super::cancels::{Snapshot, cancel_key};
use super::entry::Entry;
use super::flush::Unit;
use super::record::{EntryKey, LeaseKey, Resolution};
use super::time::Micros;
use super::window::{Held, Slot, State};

/// Entries that end in one flush.
const CHUNK: usize = 1_000;

/// Which jobs to cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The caller has seen that it exists, and that it is neither done nor dead.
    Job(i64),
    /// All that carry this key now.
    Key(i64),
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Which {
    Job(i64),
    Key(i64),
}

/// One of `cancel` of `tidemill.journal_write`.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct CancelItem {
    #[serde(flatten)]
    which: Which,
    code: i32,
    /// The time of the call's first flush.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<i64>,
}

impl CancelItem {
    fn of_job(job: i64, code: i32) -> Self {
        Self { which: Which::Job(job), code, since: None }
    }
}

/// What `tidemill.cancel_jobs` answered.
#[derive(Debug, Default, Deserialize)]
pub(super) struct CancelAnswer {
    gone: u64,
    leased: Vec<i64>,
    others: Vec<i64>,
    snapshot: Option<Snapshot>,
    more: bool,
}

/// One of `cancelled` of `tidemill.journal_write`.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Cancelled {
    job: i64,
    #[serde(rename = "cancelled")]
    code: i32,
}

/// A call that is being written down.
#[derive(Debug)]
pub(super) struct Call {
    target: Target,
    code: i32,
    since: Option<i64>,
    sum: Sum,
}

/// How many jobs of a call have ended, and how many were told.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    cancelled: u64,
    told: u64,
}

/// A call that was written down, while the window's entries are ended.
#[derive(Debug)]
pub(super) struct Sweep {
    code: i32,
    sum: Sum,
    /// Entries whose end is not in a unit yet.
    rest: Vec<Slot>,
}

impl Engine {
    /// Answered when none of the target's jobs will be given out any more: how many ended, and how many are told.
    pub fn cancel(&mut self, request: RequestId, target: Target, code: i32) {
        if let Target::Job(job) = target {
            // It may be read, or come to an end, before this is committed.
            self.cancels.tell(job, code);
        }
        self.declare(request, Call { target, code, since: None, sum: Sum::default() });
    }

    fn declare(&mut self, request: RequestId, call: Call) {
        let which = match call.target {
            Target::Job(job) => Which::Job(job),
            Target::Key(key) => Which::Key(key),
        };
        let mut unit = Unit::default();
        unit.cold.cancel.push(CancelItem { which, code: call.code, since: call.since });
        unit.reply = Some(Reply { request, kind: ReplyKind::Cancel(call) });
        self.submit(unit);
    }

    /// What the waiting room said of one item, whoever asked.
    pub(super) fn cancel_answered(&mut self, item: &CancelItem, answer: &CancelAnswer) {
        let CancelItem { which, code, .. } = *item;
        match which {
            Which::Job(job) if answer.gone > 0 => self.cancels.ended(job),
            Which::Job(_) => {}
            Which::Key(key) => {
                if let Some(snapshot) = &answer.snapshot {
                    self.cancels.set_key(key, code, snapshot.clone());
                }
            }
        }
    }

    /// The call is written down, or a part of it: goes on with the rest, then with the window.
    pub(super) fn declared(&mut self, request: RequestId, mut call: Call, answer: &CancelAnswer, at: Micros) {
        call.sum.cancelled += answer.gone;
        call.sum.told += answer.leased.len() as u64;
        let mut sweep = Sweep { code: call.code, sum: call.sum, rest: Vec::new() };
        let mut unit = Unit::default();
        match call.target {
            Target::Key(_) => {
                sweep.sum.cancelled += answer.others.len() as u64;
                for job in answer.leased.iter().chain(&answer.others) {
                    self.cancels.tell(*job, call.code);
                }
                if answer.more {
                    call.sum = sweep.sum;
                    call.since.get_or_insert(at.0);
                    return self.declare(request, call);
                }
            }
            Target::Job(job) => {
                let is_here = !self.targeted(call.target).is_empty();
                let is_told = self.cancels.code(job).is_some();
                match answer.others.as_slice() {
                    [] if answer.leased.is_empty() => self.cancels.forget(job),
                    [_, ..] if !is_here && is_told => sweep.sum.cancelled += 1,
                    // It came to an end meanwhile.
                    [_, ..] if !is_here => {
                        sweep.sum.cancelled += u64::from(self.cancels.has_ended(job));
                        unit.cold.ended.push(job);
                    }
                    _ => {}
                }
            }
        }
        self.sweep(&mut unit, call.target, &mut sweep);
        self.sweep_on(request, unit, sweep);
    }

    /// Takes what is ready out of the order, and tells the others.
    fn sweep(&mut self, unit: &mut Unit, target: Target, sweep: &mut Sweep) {
        for slot in self.targeted(target) {
            let Some(seat) = self.window.get(slot) else { continue };
            let job = seat.entry.key.job;
            match &seat.state {
                State::Ready => {
                    self.window.take_out(slot);
                    if let Some(seat) = self.window.get_mut(slot) {
                        seat.state = State::Finishing(None);
                    }
                    sweep.rest.push(slot);
                }
                // Of one that is on its way into the waiting room, the row there will say what it is.
                State::Granting(_) | State::Leased(..) | State::Finishing(_) | State::Moving(_) => {
                    self.cancels.tell(job, sweep.code);
                    unit.cold.cancel.push(CancelItem::of_job(job, sweep.code));
                }
            }
        }
    }

    /// The target's entries in the window. A job that was never put again is found at once.
    fn targeted(&self, target: Target) -> Vec<Slot> {
        let wanted = |entry: &Entry| match target {
            Target::Job(job) => entry.key.job == job,
            Target::Key(key) => cancel_key(&entry.event) == Some(key),
        };
        if let Target::Job(job) = target
            && let Some(slot) = self.window.find(EntryKey { job, put: 0 })
        {
            return vec![slot];
        }
        self.window.iter().filter(|(_, seat)| wanted(&seat.entry)).map(|(slot, _)| slot).collect()
    }

    /// Ends the next entries, into the unit.
    fn sweep_on(&mut self, request: RequestId, mut unit: Unit, mut sweep: Sweep) {
        let chunk = sweep.rest.split_off(sweep.rest.len().saturating_sub(CHUNK));
        for slot in &chunk {
            self.end_cancelled(&mut unit, *slot, None, sweep.code);
        }
        sweep.sum.cancelled += chunk.len() as u64;
        unit.reply = Some(Reply { request, kind: ReplyKind::Sweep(sweep) });
        self.submit(unit);
    }

    /// A part of the window is swept; the answer, if it was the last one.
    pub(super) fn swept(
        &mut self,
        request: RequestId,
        mut sweep: Sweep,
        asked: impl Iterator<Item = (CancelItem, CancelAnswer)>,
    ) -> Option<Answered> {
        let mut unit = Unit::default();
        for (item, answer) in asked {
            let Which::Job(job) = item.which else { continue };
            if answer.gone > 0 {
                sweep.sum.cancelled += 1;
            } else if self.cancels.code(job).is_some() {
                sweep.sum.told += 1;
            } else {
                // What was on its way when it was told has come to an end.
                sweep.sum.cancelled += u64::from(self.cancels.has_ended(job));
                unit.cold.ended.push(job);
            }
        }
        if !sweep.rest.is_empty() || unit.writes() {
            self.sweep_on(request, unit, sweep);
            return None;
        }
        let Sum { cancelled, told } = sweep.sum;
        Some(Answered::Cancelled { cancelled, told })
    }

    /// The database refused the call: what it had taken is ready again.
    pub(super) fn cancel_refused(&mut self, kind: &ReplyKind) {
        match kind {
            ReplyKind::Cancel(Call { target: Target::Job(job), .. }) => self.cancels.forget(*job),
            ReplyKind::Sweep(sweep) => sweep.rest.iter().for_each(|slot| self.window.make_ready(*slot)),
            ReplyKind::Cancel(_)
            | ReplyKind::Grab { .. }
            | ReplyKind::Results(_)
            | ReplyKind::Heartbeat(_)
            | ReplyKind::Lent(_)
            | ReplyKind::Pause => {}
        }
    }

    /// Entries that were hit when they were read come to their end.
    pub(super) fn end_hits(&mut self, hits: &[(Slot, i32)]) {
        for chunk in hits.chunks(CHUNK) {
            let mut unit = Unit::default();
            for (slot, code) in chunk {
                self.end_cancelled(&mut unit, *slot, None, *code);
            }
            self.submit(unit);
        }
    }

    /// Nobody works on this entry, under this lease any more: it ends as cancelled.
    pub(super) fn end_cancelled(&mut self, unit: &mut Unit, slot: Slot, held: Option<Held>, code: i32) {
        let Some(seat) = self.window.get_mut(slot) else { return };
        let lease = held.as_ref().map_or(LeaseKey { epoch: self.epoch, number: 0 }, |held| held.lease);
        seat.state = State::Finishing(held);
        let entry = seat.entry.key;
        self.end(unit, slot, lease, Resolution::Cancelled);
        unit.cold.cancelled.push(Cancelled { job: entry.job, code });
        if self.cancels.code(entry.job).is_some() {
            unit.cold.ended.push(entry.job);
        }
    }

    /// An entry that nobody works on any more is ready again, unless it is to end.
    pub(super) fn ready_again(&mut self, slot: Slot) {
        let job = self.window.get(slot).map(|seat| seat.entry.key.job);
        let Some(code) = job.and_then(|job| self.cancels.code(job)) else {
            return self.window.make_ready(slot);
        };
        let mut unit = Unit::default();
        self.end_cancelled(&mut unit, slot, None, code);
        self.submit(unit);
    }

    /// A job that is being cancelled goes on in the waiting room: there, too, it must be known.
    pub(super) fn cancel_there(&self, unit: &mut Unit, job: i64) {
        if let Some(code) = self.cancels.code(job) {
            unit.cold.cancel.push(CancelItem::of_job(job, code));
        }
    }

    /// Looks whether cancellations have done their work.
    pub(super) fn prune_cancels(&mut self) {
        let mark = self.window.low_water();
        if self.cancels.rests(self.now) {
            return;
        }
        if self.cancels.look_at(mark).is_some_and(|at| at <= self.now) {
            self.cancels.look(mark, self.now);
            let mut unit = Unit::default();
            unit.cold.prune.push(true);
            self.submit(unit);
        }
    }
}
