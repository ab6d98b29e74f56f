//! Repeats: which queue a worker's last numbered grab over several queues got its jobs from. Each engine knows its own
//! last grab; this says which engine to ask again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use tidemill_common::id::QueueName;
use uuid::Uuid;

/// Workers remembered.
const WORKERS: usize = 10_000;

/// The last grab of each worker instance, forgotten in the order of their first grabs.
#[derive(Debug, Default)]
pub(super) struct Repeats(Mutex<Last>);

#[derive(Debug, Default)]
struct Last {
    grabs: HashMap<Uuid, (u64, QueueName)>,
    order: VecDeque<Uuid>,
}

impl Repeats {
    /// The queue that answered this request before.
    pub(super) fn find(&self, worker: Uuid, number: Option<u64>) -> Option<QueueName> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.grabs.get(&worker).filter(|(last, _)| Some(*last) == number).map(|(_, queue)| queue.clone())
    }

    /// This queue answered this request.
    pub(super) fn remember(&self, worker: Uuid, number: u64, queue: QueueName) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.grabs.insert(worker, (number, queue)).is_none() {
            last.order.push_back(worker);
        }
        if last.order.len() > WORKERS
            && let Some(oldest) = last.order.pop_front()
        {
            last.grabs.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_grab_of_each_worker_is_known() {
        let repeats = Repeats::default();
        let worker = Uuid::from_u128(1);
        let queue: QueueName = "mail".parse().unwrap();
        repeats.remember(worker, 7, queue.clone());
        assert_eq!(repeats.find(worker, Some(7)), Some(queue.clone()));
        assert_eq!(repeats.find(worker, Some(8)), None);
        assert_eq!(repeats.find(worker, None), None);
        for other in 2..=WORKERS as u128 + 1 {
            repeats.remember(Uuid::from_u128(other), 1, queue.clone());
        }
        assert_eq!(repeats.find(worker, Some(7)), None);
    }
}
