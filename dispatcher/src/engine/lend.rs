//! Lend: before a job is replaced by a stream of others, its lease goes on in the waiting room. There whoever deletes the
//! row decides, and the stream's transaction can do that last, whatever the engine does meanwhile.

use tidemill_common::api::Answer;
use tidemill_common::lease::Lease;

use super::Engine;
use super::answer::{Decided, Extended, Loan, PendingExtension, Reply, ReplyKind, RequestId};
use super::commit::ColdAnswers;
use super::finish::Said;
use super::finished::Children;
use super::flush::{Extend, Unit};
use super::record::{EntryKey, LeaseKey};
use super::window::State;

impl Engine {
    /// Answered `ok` when the lease is live and in the waiting room, `already` if its job was replaced before.
    pub fn lend(&mut self, request: RequestId, lease: Option<&Lease>) {
        let mut unit = Unit::default();
        let loan = self.lend_one(&mut unit, lease);
        unit.reply = Some(Reply { request, kind: ReplyKind::Lent(loan) });
        self.submit(unit);
    }

    /// The stream that replaces the lease's job by so many others is committed.
    pub fn streamed(&mut self, lease: &Lease, count: u64) {
        let children = Children { count, ..Children::default() };
        self.tally.completed += 1;
        self.window.end_lent(LeaseKey { epoch: lease.epoch, number: lease.number });
        self.progress.forget(lease.job);
        self.cancels.forget(lease.job);
        self.finished.remember_children(LeaseKey { epoch: lease.epoch, number: lease.number }, children);
    }

    fn lend_one(&mut self, unit: &mut Unit, lease: Option<&Lease>) -> Loan {
        let Some(lease) = lease.filter(|lease| lease.queue_id == self.queue_id) else {
            return Loan::Known(Answer::Stale.into());
        };
        let key = LeaseKey { epoch: lease.epoch, number: lease.number };
        let entry = EntryKey { job: lease.job, put: lease.put };
        let known = self.repeated_result(key, Said::Replace);
        let Some(slot) = self.window.find(entry) else {
            if let Some(known) = known {
                return Loan::Known(known);
            }
            if self.fold.holds(entry, key, self.now) {
                return Loan::Known(Answer::Unavailable.into());
            }
            return Loan::There(look(unit, lease, PendingExtension::Waiting), key);
        };
        let Some(seat) = self.window.get(slot) else { return Loan::Known(Answer::Unavailable.into()) };
        match &seat.state {
            State::Leased(held, extending)
                if held.lease == key
                    && (held.nonce, seat.entry.attempt, held.transactional)
                        == (lease.nonce, lease.attempt, lease.transactional) =>
            {
                if *extending > 0 || seat.immovable {
                    return Loan::Known(Answer::Unavailable.into());
                }
                self.move_lease(unit, slot);
                Loan::Moved
            }
            State::Moving(Some(held)) if held.lease == key && held.nonce == lease.nonce => {
                Loan::There(look(unit, lease, PendingExtension::Moving(slot, key)), key)
            }
            State::Finishing(Some(held)) if held.lease == key && held.nonce == lease.nonce => {
                Loan::Known(Answer::Unavailable.into())
            }
            State::Ready
            | State::Granting(_)
            | State::Leased(..)
            | State::Finishing(_)
            | State::Moving(_) => Loan::Known(known.unwrap_or(Answer::Stale.into())),
        }
    }

    pub(super) fn lent(&self, loan: Loan, cold: &mut ColdAnswers) -> Decided {
        match loan {
            Loan::Known(decided) => decided,
            Loan::Moved => Answer::Ok.into(),
            Loan::There(pending, key) => match self.extension(pending, cold) {
                Extended::Until(_) | Extended::Stopping(..) => Answer::Ok.into(),
                Extended::Stale => self.repeated_result(key, Said::Replace).unwrap_or(Answer::Stale.into()),
                Extended::Unavailable => Answer::Unavailable.into(),
            },
        }
    }
}

/// Extends the lease by nothing: that tells whether it is live.
fn look(unit: &mut Unit, lease: &Lease, pending: PendingExtension) -> PendingExtension {
    unit.cold.extend.push(Extend { lease: lease.into(), ms: 0 });
    pending
}
