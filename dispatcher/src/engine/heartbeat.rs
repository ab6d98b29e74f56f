//! Heartbeat: a lease lasts longer, once that is committed.

use std::sync::Arc;

use tidemill_common::api::Progress;
use tidemill_common::lease::Lease;

use super::Engine;
use super::answer::{PendingBeat, PendingExtension, Reply, ReplyKind, RequestId};
use super::flush::{Effect, Extend, Unit};
use super::record::{EntryKey, LeaseKey, Record};
use super::window::State;

/// One lease of a heartbeat.
#[derive(Debug, Clone, Default)]
pub struct Beat {
    /// `None`: the text was no token.
    pub lease: Option<Lease>,
    /// From the commit on; `None`: as long as the queue's lease.
    pub ms: Option<u64>,
    /// What the job says of itself; `None`: nothing new.
    pub progress: Option<Arc<Progress>>,
}

impl Engine {
    /// Extends leases, no further than their jobs' timeouts, and remembers what the jobs say of themselves.
    pub fn heartbeat(&mut self, request: RequestId, leases: &[Beat]) {
        let mut unit = Unit::default();
        let answers = leases
            .iter()
            .map(|Beat { lease, ms, progress }| match lease {
                Some(lease) => PendingBeat {
                    extension: self.extend(&mut unit, lease, ms.unwrap_or(self.settings.lease_ms)),
                    job: lease.job,
                    progress: progress.clone(),
                },
                None => PendingBeat { extension: PendingExtension::Stale, job: 0, progress: None },
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
                    if seat.entry.over_at(held.since) == Some(held.until) {
                        return PendingExtension::Slot(slot, key); // it has all the time there is
                    }
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
