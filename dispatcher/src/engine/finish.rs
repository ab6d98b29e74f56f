//! Results: who may finish a job, and what that does.

use rand::Rng;
use tidemill_common::api::{Answer, Outcome, PreviousEnd};
use tidemill_common::lease::Lease;

use super::answer::{Decided, Pending, Reply, ReplyKind, RequestId};
use super::finished::Finished;
use super::flush::{Dead, Due, Effect, Failure, Finish, HolderItem, Insert, JobResult, Unit, Wait, new_jobs};
use super::record::{EntryKey, LeaseKey, Record, Resolution};
use super::window::{Held, Slot, State};
use super::{Engine, previous};

impl Engine {
    /// Results without a grab. A lease of `None` was no token at all.
    pub fn results(&mut self, request: RequestId, results: &[(Option<Lease>, Outcome)]) {
        let mut unit = Unit::default();
        let answers = self.finish_all(&mut unit, results);
        unit.reply = Some(Reply { request, kind: ReplyKind::Results(answers) });
        self.submit(unit);
    }

    pub(super) fn finish_all(
        &mut self,
        unit: &mut Unit,
        results: &[(Option<Lease>, Outcome)],
    ) -> Vec<Pending> {
        results.iter().map(|(lease, outcome)| self.finish(unit, lease.as_ref(), outcome)).collect()
    }

    /// One result. Only the newest lease of an entry, not yet ended, may finish it.
    pub(super) fn finish(&mut self, unit: &mut Unit, lease: Option<&Lease>, outcome: &Outcome) -> Pending {
        let Some(lease) = lease.filter(|l| l.queue_id == self.queue_id) else {
            return Pending::Known(Answer::Stale.into());
        };
        let key = LeaseKey { epoch: lease.epoch, number: lease.number };
        let entry = EntryKey { job: lease.job, put: lease.put };
        if let Some(slot) = self.window.find(entry)
            && let Some(seat) = self.window.get(slot)
        {
            return match &seat.state {
                State::Leased(held, _) if held.lease == key => {
                    let same = (held.nonce, seat.entry.attempt, held.transactional);
                    if same != (lease.nonce, lease.attempt, lease.transactional) {
                        return Pending::Known(Answer::Stale.into()); // forged
                    }
                    let is_over = self.ends_by(entry.job, outcome);
                    self.finish_leased(unit, slot, outcome);
                    match outcome {
                        _ if is_over => Pending::Known(Answer::Cancelled.into()),
                        Outcome::Replace { .. } => Pending::Replaced,
                        _ => Pending::Known(Answer::Ok.into()),
                    }
                }
                State::Finishing(Some(held)) if held.lease == key && held.nonce == lease.nonce => {
                    Pending::Deciding(key, Said::of(outcome))
                }
                // The flush that moves it comes before, or adds the row before it looks for it.
                State::Moving(Some(held)) if held.lease == key && held.nonce == lease.nonce => {
                    self.finish_waiting(unit, lease, outcome);
                    Pending::Moving(slot, key, Said::of(outcome))
                }
                State::Ready
                | State::Granting(_)
                | State::Leased(..)
                | State::Finishing(_)
                | State::Moving(_) => {
                    let known = self.repeated_result(key, Said::of(outcome));
                    Pending::Known(known.unwrap_or(Answer::Stale.into()))
                }
            };
        }
        if let Some(answer) = self.repeated_result(key, Said::of(outcome)) {
            return Pending::Known(answer);
        }
        if self.fold.holds(entry, key, self.now) {
            return Pending::Known(Answer::Unavailable.into());
        }
        // Not in the window: the lease may live in the waiting room, where the row decides.
        self.finish_waiting(unit, lease, outcome);
        Pending::Waiting(key, Said::of(outcome), lease.job)
    }

    fn finish_waiting(&mut self, unit: &mut Unit, lease: &Lease, outcome: &Outcome) {
        unit.said.push((LeaseKey { epoch: lease.epoch, number: lease.number }, Said::of(outcome)));
        unit.cold.finish.push(Finish {
            lease: lease.into(),
            outcome: outcome.name(),
            delay_ms: match outcome {
                Outcome::TempFail { retry_in_ms, .. } => self.delay(*retry_in_ms, lease.attempt),
                _ => 0,
            },
            message: message(outcome).to_owned(),
            jobs: match outcome {
                Outcome::Replace { jobs } => Some(new_jobs(jobs)),
                _ => None,
            },
            result: match outcome {
                Outcome::Complete { result } => result.as_ref().map(|json| json.get().to_owned()),
                _ => None,
            },
            cancel: self.cancels.code(lease.job),
        });
    }

    /// The answer to a result for a lease that is finished, and committed; `None` if that is not known.
    pub(super) fn repeated_result(&self, key: LeaseKey, said: Said) -> Option<Decided> {
        let how = self.finished.get(key)?;
        if how == Finished::Resolved(Resolution::Cancelled) {
            return Some(Answer::Cancelled.into());
        }
        if !said.is(how) {
            return Some(Answer::Stale.into());
        }
        Some(Decided { answer: Answer::Already, children: self.finished.children(key).cloned() })
    }

    /// Is this outcome the end of a job that is being cancelled? Its handler may still complete it, or give it up.
    fn ends_by(&self, job: i64, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::TempFail { .. } | Outcome::Decline => self.cancels.code(job).is_some(),
            Outcome::Complete { .. } | Outcome::PermFail { .. } | Outcome::Replace { .. } => false,
        }
    }

    fn finish_leased(&mut self, unit: &mut Unit, slot: Slot, outcome: &Outcome) {
        let Some(seat) = self.window.get_mut(slot) else { return };
        if !matches!(seat.state, State::Leased(..)) {
            return;
        }
        let State::Leased(held, _) = std::mem::replace(&mut seat.state, State::Ready) else { return };
        let (entry, lease) = (seat.entry.key, held.lease);
        if let Some(code) = self.cancels.code(entry.job) {
            if self.ends_by(entry.job, outcome) {
                if let Outcome::TempFail { message, .. } = outcome {
                    self.fail(unit, slot, &held, message);
                }
                return self.end_cancelled(unit, slot, Some(held), code);
            }
            unit.cold.ended.push(entry.job);
        }
        match outcome {
            Outcome::Complete { result } => {
                if let Some(json) = result {
                    unit.cold.result.push(JobResult { job: entry.job, result: json.get().to_owned() });
                }
                self.end(unit, slot, lease, Resolution::Completed);
            }
            Outcome::Replace { jobs } => {
                // The n-th replaced entry of a flush is the n-th item here.
                unit.cold.insert.push(Insert { job: entry.job, jobs: new_jobs(jobs) });
                self.end(unit, slot, lease, Resolution::Replaced);
            }
            Outcome::Decline => {
                unit.records.push(Record::Released { entry, lease });
                unit.effects.push(Effect::Release { slot });
            }
            Outcome::TempFail { message, retry_in_ms } => {
                self.fail(unit, slot, &held, message);
                if self.is_exhausted(slot) {
                    self.bury(unit, slot, lease, Resolution::Exhausted, message);
                } else {
                    self.retry(unit, slot, &held, *retry_in_ms);
                }
            }
            Outcome::PermFail { message } => {
                self.fail(unit, slot, &held, message);
                self.bury(unit, slot, lease, Resolution::Failed, message);
            }
        }
        if let Some(seat) = self.window.get_mut(slot) {
            seat.state = State::Finishing(Some(held));
        }
    }

    fn is_exhausted(&self, slot: Slot) -> bool {
        self.window.get(slot).is_some_and(|seat| seat.entry.attempt >= self.max_attempts(&seat.entry))
    }

    fn fail(&self, unit: &mut Unit, slot: Slot, held: &Held, message: &str) {
        if let Some(seat) = self.window.get(slot) {
            unit.cold.fail.push(Failure {
                job: seat.entry.key.job,
                attempt: seat.entry.attempt,
                reason: "failed",
                message: message.to_owned(),
                holder: Some(HolderItem::from(&*held.holder)),
            });
        }
    }

    /// Into the waiting room until the back-off is over.
    fn retry(&mut self, unit: &mut Unit, slot: Slot, held: &Held, retry_in_ms: Option<u64>) {
        let Some(attempt) = self.window.get(slot).map(|seat| seat.entry.attempt) else { return };
        let due_ms = self.delay(retry_in_ms, attempt);
        let Some(seat) = self.window.get(slot) else { return };
        let ended = previous(&held.holder, PreviousEnd::Failed, self.now);
        unit.cold.wait.push(Wait {
            put: seat.entry.key.put + 1,
            attempt,
            kind: "retry",
            due: Due::After(due_ms),
            lease: None,
            over: None,
            parked_key: None,
            holder: None,
            previous: serde_json::to_value(ended).ok(),
            job: (&seat.entry).into(),
        });
        unit.resolve(Resolution::Retried, seat.entry.key, held.lease);
        unit.effects.push(Effect::Resolve { slot, how: Resolution::Retried });
    }

    /// Among the dead letters.
    fn bury(&self, unit: &mut Unit, slot: Slot, lease: LeaseKey, how: Resolution, message: &str) {
        let Some(seat) = self.window.get(slot) else { return };
        unit.cold.dead.push(Dead {
            put: seat.entry.key.put,
            attempt: seat.entry.attempt,
            reason: if how == Resolution::Failed { "perm_fail" } else { "exhausted" },
            message: message.to_owned(),
            job: (&seat.entry).into(),
        });
        self.end(unit, slot, lease, how);
    }

    /// The job is done with.
    pub(super) fn end(&self, unit: &mut Unit, slot: Slot, lease: LeaseKey, how: Resolution) {
        let Some(seat) = self.window.get(slot) else { return };
        if seat.entry.unique {
            unit.cold.release.push(seat.entry.key.job);
        }
        unit.resolve(how, seat.entry.key, lease);
        unit.effects.push(Effect::Resolve { slot, how });
    }

    /// The last allowed attempt ended without a result: a dead letter instead of another lease.
    pub(super) fn exhaust(&mut self, slot: Slot, held: Option<Held>) {
        let mut unit = Unit::default();
        let mut message = "the last attempt ended without a result".to_owned();
        if let Some(held) = &held
            && let Some(seat) = self.window.get(slot)
        {
            message = seat.entry.why_over(held.since, held.until).unwrap_or(message);
            unit.cold.fail.push(Failure {
                job: seat.entry.key.job,
                attempt: seat.entry.attempt,
                reason: "expired",
                message: message.clone(),
                holder: Some(HolderItem::from(&*held.holder)),
            });
        }
        let lease = held.map_or(LeaseKey { epoch: self.epoch, number: 0 }, |held| held.lease);
        self.bury(&mut unit, slot, lease, Resolution::Exhausted, &message);
        self.submit(unit);
    }

    /// The worker's own delay, or the queue's back-off with full jitter.
    fn delay(&mut self, retry_in_ms: Option<u64>, attempt: i32) -> u64 {
        if let Some(ms) = retry_in_ms {
            return ms;
        }
        let bound = self.settings.backoff.bound_ms(attempt);
        self.rng.random_range(0..=bound)
    }
}

fn message(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::TempFail { message, .. } | Outcome::PermFail { message } => message,
        Outcome::Complete { .. } | Outcome::Decline | Outcome::Replace { .. } => "",
    }
}

/// Which outcome a worker named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    Complete,
    TempFail,
    PermFail,
    Decline,
    Replace,
}

impl Said {
    fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Complete { .. } => Self::Complete,
            Outcome::Replace { .. } => Self::Replace,
            Outcome::TempFail { .. } => Self::TempFail,
            Outcome::PermFail { .. } => Self::PermFail,
            Outcome::Decline => Self::Decline,
        }
    }

    /// Is this the outcome the lease was finished with?
    fn is(self, how: Finished) -> bool {
        match how {
            Finished::Resolved(Resolution::Completed) => self == Self::Complete,
            Finished::Resolved(Resolution::Failed) => self == Self::PermFail,
            Finished::Resolved(Resolution::Retried | Resolution::Exhausted) => self == Self::TempFail,
            Finished::Resolved(Resolution::Replaced) => self == Self::Replace,
            Finished::Resolved(Resolution::Lent | Resolution::Parked | Resolution::Cancelled) => false,
            Finished::Released => self == Self::Decline,
        }
    }

    /// Is the job done with, whatever the waiting room knows of it?
    pub(super) fn is_final(self) -> bool {
        match self {
            Self::Complete | Self::PermFail | Self::Replace => true,
            Self::TempFail | Self::Decline => false,
        }
    }

    /// How a lease of the waiting room is finished by it.
    pub(super) fn finishes(self) -> Finished {
        match self {
            Self::Complete => Finished::Resolved(Resolution::Completed),
            Self::TempFail => Finished::Resolved(Resolution::Retried),
            Self::PermFail => Finished::Resolved(Resolution::Failed),
            Self::Decline => Finished::Released,
            Self::Replace => Finished::Resolved(Resolution::Replaced),
        }
    }
}
