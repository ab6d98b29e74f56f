//! Heartbeat: a lease lasts longer, once that is committed.

use tidemill_common::lease::Lease;

use super::Engine;
use super::answer::{PendingExtension, Reply, ReplyKind, RequestId};
use super::flush::{Effect, Extend, Unit};
use super::record::{EntryKey, LeaseKey, Record};
use super::window::State;

impl Engine {
    /// Extends leases by milliseconds from the commit on (`None`: the queue's lease); a lease of `None` was no token.
    pub fn heartbeat(&mut self, request: RequestId, leases: &[(Option<Lease>, Option<u64>)]) {
        let mut unit = Unit::default();
        let answers = leases
            .iter()
            .map(|(lease, ms)| match lease {
                Some(lease) => self.extend(&mut unit, lease, ms.unwrap_or(self.settings.lease_ms)),
                None => PendingExtension::Stale,
            })
            .collect();
        unit.reply = Some(Reply { request, kind: ReplyKind::Heartbeat(answers) });
        self.submit(unit);
    }

    fn extend(&mut self, unit: &mut Unit, lease: &Lease, ms: u64) -> PendingExtension {
        if lease.queue_id != self.queue_id {
            return PendingExtension::Stale;
        }
        let key = LeaseKey { epoch: lease.epoch, number: lease.number };
        let entry = EntryKey { job: lease.job, put: lease.put };
        if let Some(slot) = self.window.find(entry) {
            let Some(seat) = self.window.get_mut(slot) else { return PendingExtension::Stale };
            return match &mut seat.state {
                State::Leased(held, extending)
                    if held.lease == key
                        && held.nonce == lease.nonce
                        && seat.entry.attempt == lease.attempt =>
                {
                    *extending += 1;
                    unit.records.push(Record::Extended { entry, lease: key, ms });
                    unit.effects.push(Effect::Extend { slot, ms });
                    PendingExtension::Slot(slot, key)
                }
                State::Finishing(Some(held)) if held.lease == key && held.nonce == lease.nonce => {
                    PendingExtension::Deciding(slot, key)
                }
                // The flush that moves it comes before, or adds the row before it looks for it.
                State::Moving(Some(held)) if held.lease == key && held.nonce == lease.nonce => {
                    unit.cold.extend.push(Extend { lease: lease.into(), ms });
                    PendingExtension::Moving(slot, key)
                }
                State::Ready
                | State::Granting(_)
                | State::Leased(..)
                | State::Finishing(_)
                | State::Moving(_) => PendingExtension::Stale,
            };
        }
        if self.finished.get(key).is_some() {
            return PendingExtension::Stale;
        }
        if self.fold.holds(entry, key, self.now) {
            return PendingExtension::Unavailable;
        }
        unit.cold.extend.push(Extend { lease: lease.into(), ms });
        PendingExtension::Waiting
    }
}
