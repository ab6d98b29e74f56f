//! Routes: which queues there are, and who owns each.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use tidemill_common::queue::dispatch::JobQueue;
use tokio::sync::watch;
use tokio::time::{Duration, Instant};
use uuid::Uuid;

use crate::command::QueueHandle;

/// What was seen of a queue, and when.
#[derive(Debug, Clone)]
pub struct Seen {
    pub queue: JobQueue,
    pub at: Instant,
}

impl Seen {
    /// When the term seen ends, if nobody renews it.
    #[must_use]
    pub fn free_at(&self) -> Instant {
        self.at + Duration::from_millis(u64::try_from(self.queue.owner.left_ms).unwrap_or(0))
    }
}

/// One queue, as requests find it.
#[derive(Debug, Clone)]
pub struct Route {
    /// What discovery saw last.
    pub seen: watch::Receiver<Seen>,
    /// The server of the queue in this process; whether it owns the queue is in `owned`.
    pub handle: QueueHandle,
    /// True while this process owns the queue and has folded its journal.
    pub owned: watch::Receiver<bool>,
}

/// Where a request for a queue goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// To the server in this process.
    Here,
    /// To another dispatcher, at this address.
    There(String),
    /// Nobody owns it at this moment.
    Nobody,
}

impl Route {
    /// Who owns the queue now, as far as this process (`me`) knows.
    #[must_use]
    pub fn owner(&self, me: Uuid) -> Owner {
        if *self.owned.borrow() {
            return Owner::Here;
        }
        let seen = self.seen.borrow();
        let owner = &seen.queue.owner;
        match &owner.address {
            Some(address) if owner.holder != Some(me) && seen.free_at() > Instant::now() => {
                Owner::There(address.clone())
            }
            _ => Owner::Nobody,
        }
    }
}

/// All queues of the database, shared between discovery and requests.
#[derive(Debug, Clone, Default)]
pub struct Routes(Arc<RwLock<HashMap<String, Route>>>);

impl Routes {
    /// The route of a queue; `None` if it is no job queue (or not seen yet).
    #[must_use]
    pub fn find(&self, queue: &str) -> Option<Route> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(queue).cloned()
    }

    /// The route of the queue with this id, as leases name it.
    #[must_use]
    pub fn find_id(&self, queue_id: i32) -> Option<Route> {
        let routes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        routes.values().find(|r| r.seen.borrow().queue.queue_id == queue_id).cloned()
    }

    /// Every queue, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Route> {
        let routes = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<Route> = routes.values().cloned().collect();
        all.sort_by(|a, b| a.seen.borrow().queue.name.cmp(&b.seen.borrow().queue.name));
        all
    }

    /// Adds a queue, or replaces it after it was dropped and made again.
    pub fn insert(&self, name: String, route: Route) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name, route);
    }

    /// Forgets a queue that is gone.
    pub fn remove(&self, name: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}
