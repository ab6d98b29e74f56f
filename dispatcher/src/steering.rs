//! Steering: which workers are told to be quiet or to terminate. The database remembers it (`tidemill.steering`); every
//! dispatcher has a copy, read again after an order that it took itself, and once a second.

use std::collections::HashMap;
use std::sync::Arc;

use tidemill_common::api::WorkerState;
use tidemill_common::db::{DbError, Session};
use tidemill_common::queue::work;
use tokio::sync::{Mutex, watch};
use uuid::Uuid;

/// What workers are told, shared between discovery and requests.
#[derive(Debug, Clone, Default)]
pub struct Steering(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Those who are told something else than to run; nearly always empty.
    told: watch::Sender<HashMap<Uuid, WorkerState>>,
    /// Held while it is read: an older reading must not come after a newer one.
    reading: Mutex<()>,
}

impl Steering {
    /// What this worker is told.
    #[must_use]
    pub fn state(&self, instance: Uuid) -> WorkerState {
        self.0.told.borrow().get(&instance).copied().unwrap_or_default()
    }

    /// Waits until this worker is told something else than to run.
    pub async fn ordered(&self, instance: Uuid) {
        // An error would mean that the sender is gone, and we hold it.
        drop(self.0.told.subscribe().wait_for(|told| told.contains_key(&instance)).await);
    }

    /// Reads again what the database remembers.
    ///
    /// # Errors
    /// [`DbError`]; then all are told what they were told before.
    pub async fn read(&self, session: &mut Session) -> Result<(), DbError> {
        let _reading = self.0.reading.lock().await;
        let now: HashMap<Uuid, WorkerState> = work::steered(session).await?.into_iter().collect();
        self.0.told.send_if_modified(|told| {
            let is_new = *told != now;
            *told = now;
            is_new
        });
        Ok(())
    }
}
