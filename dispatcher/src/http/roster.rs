//! Roster: the workers that called this dispatcher lately, themselves or by way of another one.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidemill_common::api::WorkerInfo;
use tidemill_common::id::QueueName;
use tokio::time::Instant;
use uuid::Uuid;

/// Workers remembered.
const WORKERS: usize = 10_000;
/// When there are more, so many of them are forgotten, those that have been silent longest.
const FORGOTTEN: usize = WORKERS / 8;
/// Queues remembered of each.
const QUEUES: usize = 20;
/// Who was silent so long, and holds no lease, is forgotten at the next look.
const SILENCE: Duration = Duration::from_secs(600);

/// What is known of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) worker: WorkerInfo,
    /// Those it asked for jobs.
    pub(super) queues: Vec<QueueName>,
    pub(super) first: Instant,
    pub(super) last: Instant,
}

/// All of them, by instance. A call of a worker that is known takes a lock and a lookup, and allocates nothing.
#[derive(Debug, Default)]
pub(super) struct Roster(Mutex<HashMap<Uuid, Known>>);

impl Roster {
    /// A worker called, for jobs of these queues if it was a grab.
    pub(super) fn hear(&self, worker: &WorkerInfo, queues: &[QueueName], now: Instant) {
        let mut all = self.lock();
        let instance = worker.instance.0;
        if let Some(known) = all.get_mut(&instance) {
            return known.hear(worker, queues, now);
        }
        if all.len() >= WORKERS {
            forget_some(&mut all);
        }
        let queues = queues.iter().take(QUEUES).cloned().collect();
        all.insert(instance, Known { worker: worker.clone(), queues, first: now, last: now });
    }

    /// The queues of a worker; `None` if it is not known.
    pub(super) fn queues(&self, instance: Uuid) -> Option<Vec<QueueName>> {
        self.lock().get(&instance).map(|known| known.queues.clone())
    }

    /// Everybody, but for those who were silent for long and do not hold anything.
    pub(super) fn look(&self, now: Instant, holds: impl Fn(Uuid) -> bool) -> Vec<Known> {
        let mut all = self.lock();
        all.retain(|instance, known| now.duration_since(known.last) < SILENCE || holds(*instance));
        all.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn hear(&mut self, worker: &WorkerInfo, queues: &[QueueName], now: Instant) {
        self.last = now;
        // A heartbeat may name the instance only.
        let WorkerInfo { instance: _, host, pid, name, version } = worker;
        self.worker.pid = pid.or(self.worker.pid);
        for (known, said) in [
            (&mut self.worker.host, host),
            (&mut self.worker.name, name),
            (&mut self.worker.version, version),
        ] {
            if said.is_some() && known != said {
                known.clone_from(said);
            }
        }
        // Another dispatcher asks for one queue after the other on the worker's behalf.
        for queue in queues.iter().take(QUEUES) {
            if self.queues.len() < QUEUES && !self.queues.contains(queue) {
                self.queues.push(queue.clone());
            }
        }
    }
}

/// Many at once: who makes up a new instance for every call must not make every call slow.
fn forget_some(all: &mut HashMap<Uuid, Known>) {
    let mut silent: Vec<(Instant, Uuid)> =
        all.iter().map(|(instance, known)| (known.last, *instance)).collect();
    silent.select_nth_unstable(FORGOTTEN);
    for (_, instance) in silent.iter().take(FORGOTTEN) {
        all.remove(instance);
    }
}

#[cfg(test)]
#[path = "roster_tests.rs"]
mod tests;
