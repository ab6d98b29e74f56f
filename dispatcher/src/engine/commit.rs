//! Flushes: units gather into a group, the group is committed, its effects take place and its answers leave.

use std::collections::VecDeque;

use serde::Deserialize;
use tidemill_common::api::{Answer, PreviousEnd};
use tidemill_common::lease::Lease;

use super::answer::{
    Answered, Decided, Extended, Granted, Pending, PendingBeat, PendingExtension, Reply, ReplyKind,
};
use super::cancel::CancelAnswer;
use super::cancels::Pruned;
use super::finish::Said;
use super::finished::{Children, Finished};
use super::flush::{Cold, Effect, Flush, Unit};
use super::record::{self, Record, Resolution};
use super::repeats::There;
use super::time::Micros;
use super::window::{Held, Seat, Slot, State};
use super::{Engine, previous};

/// The units of the flush that is under way.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) units: Vec<Unit>,
}

/// One of `finish`: an answer, or the ids of the jobs that exist instead.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum FinishAnswer {
    Plain(Answer),
    Replaced { ids: Vec<i64> },
}

/// `o_answers` of `tidemill.journal_write`.
#[derive(Debug, Default, Deserialize)]
pub struct ColdAnswers {
    /// Ids of new jobs, of one replace each.
    #[serde(default)]
    insert: VecDeque<Vec<i64>>,
    #[serde(default)]
    finish: VecDeque<FinishAnswer>,
    /// New end in microseconds, 0 stale, -1 undecided.
    #[serde(default)]
    extend: VecDeque<i64>,
    /// What the waiting room has of the leases of repeated grabs.
    #[serde(default)]
    again: VecDeque<Option<There>>,
    /// What there was to cancel.
    #[serde(default)]
    cancel: VecDeque<CancelAnswer>,
    #[serde(default)]
    prune: VecDeque<Pruned>,
    /// How many parked jobs were put back into the log.
    #[serde(default)]
    unpark: VecDeque<u64>,
}

impl ColdAnswers {
    /// The first of the answers, taken off.
    fn split(&mut self, wanted: &Cold) -> Self {
        fn first<T>(all: &mut VecDeque<T>, count: usize) -> VecDeque<T> {
            all.drain(..count.min(all.len())).collect()
        }
        Self {
            insert: first(&mut self.insert, wanted.insert.len()),
            finish: first(&mut self.finish, wanted.finish.len()),
            extend: first(&mut self.extend, wanted.extend.len()),
            again: first(&mut self.again, wanted.again.len()),
            cancel: first(&mut self.cancel, wanted.cancel.len()),
            prune: first(&mut self.prune, wanted.prune.len()),
            unpark: first(&mut self.unpark, wanted.unpark.len()),
        }
    }
}

impl Engine {
    /// A unit that writes nothing and waits for nothing is answered at once; any other joins the next flush.
    pub(super) fn submit(&mut self, unit: Unit) {
        if !unit.writes() && unit.effects.is_empty() && self.in_flight.is_none() && self.pending.is_empty() {
            self.answer(unit, Micros(0), &mut ColdAnswers::default());
        } else {
            self.pending.push_back(unit);
        }
    }

    /// Does something wait for the next flush?
    #[must_use]
    pub fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// What is to be committed next; `None` while a flush is under way or there is nothing to write.
    pub fn take_flush(&mut self) -> Option<Flush> {
        while self.in_flight.is_none() && !self.pending.is_empty() {
            let take = match self.suspects {
                0 => self.limits.flush_units.clamp(1, self.pending.len()),
                suspects => suspects.div_ceil(2),
            };
            self.suspects -= take.min(self.suspects);
            let units: Vec<Unit> = self.pending.drain(..take).collect();
            if units.iter().any(Unit::writes) {
                let flush = self.merge(&units);
                self.in_flight = Some(Group { units });
                return Some(flush);
            }
            for unit in units {
                self.answer(unit, Micros(0), &mut ColdAnswers::default());
            }
        }
        None
    }

    fn merge(&mut self, units: &[Unit]) -> Flush {
        let mut records: Vec<Record> = Vec::new();
        let mut cold = Cold::default();
        for unit in units {
            // The unit keeps what it wants: if the database refuses the group, it is tried again in halves.
            for record in &unit.records {
                // The results of many requests become one record.
                if let Record::Resolved { how, entries } = record
                    && let Some(Record::Resolved { how: last, entries: all }) = records.last_mut()
                    && last == how
                {
                    all.extend_from_slice(entries);
                } else {
                    records.push(record.clone());
                }
            }
            cold.release.extend_from_slice(&unit.cold.release);
            cold.wait.extend_from_slice(&unit.cold.wait);
            cold.dead.extend_from_slice(&unit.cold.dead);
            cold.fail.extend_from_slice(&unit.cold.fail);
            cold.insert.extend_from_slice(&unit.cold.insert);
            cold.finish.extend_from_slice(&unit.cold.finish);
            cold.result.extend_from_slice(&unit.cold.result);
            cold.extend.extend_from_slice(&unit.cold.extend);
            cold.again.extend_from_slice(&unit.cold.again);
            cold.cancel.extend_from_slice(&unit.cold.cancel);
            cold.cancelled.extend_from_slice(&unit.cold.cancelled);
            cold.ended.extend_from_slice(&unit.cold.ended);
            cold.prune.extend_from_slice(&unit.cold.prune);
            cold.unpark.extend_from_slice(&unit.cold.unpark);
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        Flush {
            seq,
            data: (!records.is_empty()).then(|| record::encode(&records)),
            cold: (!cold.is_empty())
                .then(|| serde_json::to_string(&cold).expect("what goes there can be written as JSON")),
        }
    }

    /// The flush under way is committed; its row has the time `at`.
    pub fn committed(&mut self, at: Micros, mut answers: ColdAnswers) {
        let Some(group) = self.in_flight.take() else { return };
        for unit in group.units {
            self.tally.count(&unit);
            self.answer(unit, at, &mut answers);
        }
        self.advance(at);
    }

    /// Answers one unit and lets its effects take place.
    fn answer(&mut self, unit: Unit, at: Micros, cold: &mut ColdAnswers) {
        // Also when nobody waits for them: the answers after them are somebody else's.
        let mut own = cold.split(&unit.cold);
        let cold = &mut own;
        for (((lease, said), item), answer) in unit.said.iter().zip(&unit.cold.finish).zip(&cold.finish) {
            match answer {
                FinishAnswer::Plain(Answer::Ok) => {
                    self.window.end_lent(*lease);
                    self.finished.remember(*lease, said.finishes());
                    self.tally.count_finished(said.finishes());
                    if said.is_final() {
                        self.progress.forget(item.lease.job);
                        self.cancels.forget(item.lease.job);
                    }
                }
                FinishAnswer::Plain(Answer::Cancelled) => {
                    self.window.end_lent(*lease);
                    self.finished.remember(*lease, Finished::Resolved(Resolution::Cancelled));
                    self.progress.forget(item.lease.job);
                    self.cancels.ended(item.lease.job);
                }
                FinishAnswer::Plain(_) => {}
                FinishAnswer::Replaced { ids } => {
                    self.window.end_lent(*lease);
                    self.finished.remember_children(*lease, Children::new(ids.clone()));
                    self.tally.count_finished(said.finishes());
                    self.progress.forget(item.lease.job);
                    self.cancels.forget(item.lease.job);
                }
            }
        }
        for (item, answer) in unit.cold.cancel.iter().zip(&cold.cancel) {
            self.cancel_answered(item, answer);
        }
        for pruned in &cold.prune {
            self.cancels.pruned(pruned);
        }
        for (item, count) in unit.cold.unpark.iter().zip(&cold.unpark) {
            self.unparked(item, *count);
        }
        // The grants first: the answer to a grab tells of leases that now have an end.
        let (mut granted, mut replaced) = (Vec::new(), Vec::new());
        for effect in unit.effects {
            match effect {
                Effect::Grant { slot, ms } => granted.extend(self.begin_lease(slot, at, ms)),
                Effect::Lend { slot, ms } => granted.extend(self.begin_loan(slot, at.plus_ms(ms))),
                Effect::Resolve { slot, how: Resolution::Replaced } => {
                    replaced.extend(self.replaced(slot, cold.insert.pop_front().unwrap_or_default()));
                }
                Effect::Resolve { slot, how } => self.resolved(slot, how),
                Effect::Release { slot } => self.released(slot, at),
                Effect::Extend { slot, ms } => self.extended(slot, at.plus_ms(ms)),
                Effect::Move { slot, key } => self.moved(slot, key.as_deref()),
            }
        }
        let Some(Reply { request, kind }) = unit.reply else { return };
        let answered = match kind {
            ReplyKind::Grab { again, results } => {
                let results = self.decided(&results, &replaced, cold);
                granted.extend(again.iter().filter_map(|(slot, lease)| self.grant_again(*slot, *lease)));
                let there = unit.again.iter().zip(std::mem::take(&mut cold.again));
                granted.extend(there.filter_map(|(lease, there)| Some(self.granted_there(*lease, there?))));
                Answered::Grab { jobs: granted, results }
            }
            ReplyKind::Results(results) => Answered::Results(self.decided(&results, &replaced, cold)),
            ReplyKind::Heartbeat(leases) => {
                Answered::Heartbeat(leases.into_iter().map(|beat| self.beaten(beat, cold)).collect())
            }
            ReplyKind::Lent(loan) => Answered::Lent { decided: self.lent(loan, cold), epoch: self.epoch },
            ReplyKind::Pause => Answered::Paused,
            ReplyKind::Cancel(call) => {
                return self.declared(request, call, &cold.cancel.pop_front().unwrap_or_default(), at);
            }
            ReplyKind::Sweep(sweep) => {
                let asked = unit.cold.cancel.into_iter().zip(std::mem::take(&mut cold.cancel));
                match self.swept(request, sweep, asked) {
                    Some(answered) => answered,
                    None => return,
                }
            }
        };
        self.answers.push((request, answered));
    }

    fn begin_lease(&mut self, slot: Slot, at: Micros, ms: u64) -> Option<Granted> {
        let seat = self.window.get_mut(slot)?;
        if !matches!(seat.state, State::Granting(_)) {
            return None;
        }
        let State::Granting(mut held) = std::mem::replace(&mut seat.state, State::Ready) else { return None };
        let until = at.plus_ms(ms);
        (held.since, held.until) = (at, until);
        let lease = held.lease;
        seat.state = State::Leased(held, 0);
        self.ends.push(until, slot, lease.number, &self.window);
        self.grant_again(slot, lease)
    }

    fn begin_loan(&mut self, slot: Slot, until: Micros) -> Option<Granted> {
        if let State::Granting(held) = &self.window.get(slot)?.state {
            let lease = held.lease;
            self.window.lend(slot, lease);
        }
        let seat = self.window.remove(slot)?;
        let State::Granting(mut held) = seat.state else { return None };
        held.until = until;
        let Seat { entry, .. } = seat;
        Some(self.grant(&entry, &held))
    }

    /// By slot and lease: another entry may have come into the slot, with a lease of its own.
    fn grant_again(&self, slot: Slot, lease: record::LeaseKey) -> Option<Granted> {
        let seat = self.window.get(slot)?;
        match &seat.state {
            State::Leased(held, _) if held.lease == lease => Some(self.grant(&seat.entry, held)),
            State::Ready
            | State::Granting(_)
            | State::Leased(..)
            | State::Finishing(_)
            | State::Moving(_) => None,
        }
    }

    fn grant(&self, entry: &super::Entry, held: &Held) -> Granted {
        Granted {
            lease: Lease {
                transactional: held.transactional,
                queue_id: self.queue_id,
                epoch: held.lease.epoch,
                number: held.lease.number,
                job: entry.key.job,
                put: entry.key.put,
                attempt: entry.attempt,
                nonce: held.nonce,
            },
            ends_at: held.until,
            inserted_at: entry.inserted_at,
            max_attempts: self.max_attempts(entry),
            timeout_ms: entry.timeout_ms,
            previous: entry.previous.clone(),
            progress: self.progress.of(entry.key.job),
            origin: self.origins.of(entry.key.job),
            event: std::sync::Arc::clone(&entry.event),
        }
    }

    fn resolved(&mut self, slot: Slot, how: Resolution) {
        if let Some(seat) = self.window.remove(slot)
            && let State::Finishing(held) = seat.state
        {
            match how {
                Resolution::Retried => {}
                Resolution::Cancelled => self.cancels.ended(seat.entry.key.job),
                _ => self.cancels.forget(seat.entry.key.job),
            }
            if how != Resolution::Retried {
                self.progress.forget(seat.entry.key.job);
            }
            if let Some(held) = held {
                self.finished.remember(held.lease, Finished::Resolved(how));
            }
        }
    }

    fn replaced(&mut self, slot: Slot, ids: Vec<i64>) -> Option<Children> {
        let seat = self.window.remove(slot)?;
        let State::Finishing(Some(held)) = seat.state else { return None };
        let children = Children::new(ids);
        self.progress.forget(seat.entry.key.job);
        self.cancels.forget(seat.entry.key.job);
        self.finished.remember_children(held.lease, children.clone());
        Some(children)
    }

    fn released(&mut self, slot: Slot, at: Micros) {
        let Some(seat) = self.window.get_mut(slot) else { return };
        let State::Finishing(Some(held)) = &seat.state else { return };
        let held = held.clone();
        seat.entry.attempt -= 1;
        seat.entry.previous = Some(previous(&held.holder, PreviousEnd::Declined, at));
        self.finished.remember(held.lease, Finished::Released);
        self.ready_again(slot);
    }

    fn extended(&mut self, slot: Slot, until: Micros) {
        let Some(seat) = self.window.get_mut(slot) else { return };
        match &mut seat.state {
            State::Leased(held, extending) => {
                *extending = extending.saturating_sub(1);
                held.until = held.until.max(seat.entry.end_within(held.since, until));
                let end = (held.until, held.lease.number);
                self.ends.push(end.0, slot, end.1, &self.window);
            }
            // It counts if the result that came in the meantime is not committed.
            State::Finishing(Some(held)) => {
                held.until = held.until.max(seat.entry.end_within(held.since, until));
            }
            State::Ready | State::Granting(_) | State::Finishing(None) | State::Moving(_) => {}
        }
    }

    fn beaten(&mut self, beat: PendingBeat, cold: &mut ColdAnswers) -> Extended {
        let extended = self.extension(beat.extension, cold);
        let Extended::Until(until) = extended else { return extended };
        if let Some(progress) = beat.progress {
            self.progress.remember(beat.job, progress);
        }
        self.cancels.code(beat.job).map_or(extended, |code| Extended::Stopping(until, code))
    }

    pub(super) fn extension(&self, pending: PendingExtension, cold: &mut ColdAnswers) -> Extended {
        match pending {
            PendingExtension::Stale => Extended::Stale,
            PendingExtension::Unavailable => Extended::Unavailable,
            PendingExtension::Slot(slot, lease) => match self.holds(slot, lease) {
                Some(until) => Extended::Until(until),
                None => Extended::Stale,
            },
            PendingExtension::Deciding(slot, lease) => match self.holds(slot, lease) {
                Some(_) => Extended::Unavailable,
                None => Extended::Stale,
            },
            PendingExtension::Waiting => in_waiting_room(cold.extend.pop_front()),
            PendingExtension::Moving(slot, lease) => {
                let told = in_waiting_room(cold.extend.pop_front());
                if self.holds(slot, lease).is_some() { Extended::Unavailable } else { told }
            }
        }
    }

    /// The end of this lease, if the slot's entry is still under it.
    fn holds(&self, slot: Slot, lease: record::LeaseKey) -> Option<Micros> {
        match &self.window.get(slot)?.state {
            State::Leased(held, _) | State::Finishing(Some(held)) | State::Moving(Some(held))
                if held.lease == lease =>
            {
                Some(held.until)
            }
            State::Ready
            | State::Granting(_)
            | State::Leased(..)
            | State::Finishing(_)
            | State::Moving(_) => None,
        }
    }

    fn decided(&self, results: &[Pending], replaced: &[Children], cold: &mut ColdAnswers) -> Vec<Decided> {
        // In the order of the results.
        let mut replaced = replaced.iter();
        let one = |pending: &Pending| match pending {
            Pending::Known(decided) => decided.clone(),
            Pending::Replaced => Decided { answer: Answer::Ok, children: replaced.next().cloned() },
            // Not finished after all: that result was refused. The lease is live: repeat.
            Pending::Deciding(lease, said) => {
                self.repeated_result(*lease, *said).unwrap_or(Answer::Unavailable.into())
            }
            Pending::Waiting(lease, said, job) => match self.waiting_answer(*lease, *said, cold) {
                told if told == Answer::Stale && self.cancels.has_ended(*job) => Answer::Cancelled.into(),
                told => told,
            },
            Pending::Moving(slot, lease, said) => {
                let told = self.waiting_answer(*lease, *said, cold);
                if self.holds(*slot, *lease).is_some() { Answer::Unavailable.into() } else { told }
            }
        };
        results.iter().map(one).collect()
    }

    /// The next of the waiting room's answers; what it calls stale may have been finished by this very result before.
    fn waiting_answer(&self, lease: record::LeaseKey, said: Said, cold: &mut ColdAnswers) -> Decided {
        match cold.finish.pop_front() {
            Some(FinishAnswer::Plain(Answer::Stale)) => {
                self.repeated_result(lease, said).unwrap_or(Answer::Stale.into())
            }
            Some(FinishAnswer::Plain(answer)) => answer.into(),
            Some(FinishAnswer::Replaced { ids }) => {
                Decided { answer: Answer::Ok, children: Some(Children::new(ids)) }
            }
            None => Answer::Unavailable.into(),
        }
    }
}

fn in_waiting_room(until: Option<i64>) -> Extended {
    match until {
        Some(0) => Extended::Stale,
        Some(until) if until > 0 => Extended::Until(Micros(until)),
        Some(_) | None => Extended::Unavailable,
    }
}
