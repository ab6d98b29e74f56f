//! One mover works at a time: the lease in the destination, and what the rest of the process knows of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidemill_common::db::{DbError, Session};
use tidemill_common::id::{ConsumerName, Epoch};
use tidemill_common::queue::mover::{DestinationIdentity, hold_mover_lease, release_mover_lease};
use tidemill_common::schema;
use tidemill_common::service::{Condition, Progress, Step, StepError, Wake};
use tokio::time::Instant;
use uuid::Uuid;

/// The lease as the last renewal left it; clones share it.
#[derive(Debug, Clone)]
pub struct Lease {
    name: ConsumerName,
    state: Arc<Mutex<Option<Held>>>,
}

/// A lease that is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Rises with every change of hands; checked in each of the destination's transactions.
    pub epoch: Epoch,
    /// The database it is in.
    pub destination: DestinationIdentity,
    /// Until when we may act on it, by our own clock: counted from before the question was asked.
    trusted_until: Instant,
}

impl Lease {
    /// A lease that nobody has asked for yet.
    #[must_use]
    pub fn new(name: ConsumerName) -> Self {
        Self { name, state: Arc::default() }
    }

    /// Name of the lease: the mover's consumer.
    #[must_use]
    pub fn name(&self) -> &ConsumerName {
        &self.name
    }

    /// The lease, while it is ours.
    #[must_use]
    pub fn held(&self) -> Option<Held> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.filter(|held| Instant::now() < held.trusted_until)
    }

    fn set(&self, held: Option<Held>) -> Option<Held> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *state, held)
    }
}

/// Takes the lease when it is free and renews it while it is ours.
#[derive(Debug)]
pub struct HoldLease {
    session: Session,
    lease: Lease,
    holder: Uuid,
    term: Duration,
    readers: Vec<Wake>,
    reached: Option<Condition>,
    /// Connection whose schema was compared.
    checked: u64,
}

impl HoldLease {
    /// A step that holds `lease` in the session's database for the process `holder`, each time for `term`,
    /// and wakes `readers` when it becomes ours.
    #[must_use]
    pub fn new(session: Session, lease: Lease, holder: Uuid, term: Duration, readers: Vec<Wake>) -> Self {
        Self { session, lease, holder, term, readers, reached: None, checked: 0 }
    }

    /// Meets `reached` once the destination has answered, whoever holds the lease.
    #[must_use]
    pub fn telling(mut self, reached: Condition) -> Self {
        self.reached = Some(reached);
        self
    }

    fn took(&self, held: Held) {
        let before = self.lease.set(Some(held));
        if before.map(|before| before.epoch) != Some(held.epoch) {
            tracing::info!(database.name = self.session.target().name(), epoch = held.epoch.get(), "moving");
            self.readers.iter().for_each(Wake::wake);
        }
    }
}

impl Step for HoldLease {
    const NAME: &'static str = "hold_lease";

    async fn step(&mut self) -> Result<Progress, StepError> {
        self.session.open("connect").await?;
        if self.checked != self.session.generation() {
            schema::check(&mut self.session).await?;
            self.checked = self.session.generation();
        }
        let asked = Instant::now();
        let term_ms = i32::try_from(self.term.as_millis()).unwrap_or(i32::MAX);
        let name = self.lease.name.clone();
        let state = hold_mover_lease(&mut self.session, name.as_str(), self.holder, term_ms).await?;
        if let Some(reached) = &self.reached {
            reached.met();
        }
        if state.held {
            let left = Duration::from_millis(u64::try_from(state.left_ms).unwrap_or(0));
            self.took(Held {
                epoch: state.epoch,
                destination: state.destination,
                trusted_until: asked + left.mul_f64(0.95),
            });
        } else if self.lease.set(None).is_some() {
            tracing::warn!(database.name = self.session.target().name(), holder = %state.holder, "another mover took over");
        }
        Ok(Progress::Idle)
    }

    fn label(&self) -> String {
        self.session.target().name().to_owned()
    }
}

/// Gives the lease back, so that a mover standing by need not wait for its end.
///
/// # Errors
/// [`DbError`]: it then ends by itself.
pub(crate) async fn release(session: &mut Session, lease: &Lease, holder: Uuid) -> Result<(), DbError> {
    lease.set(None);
    let ours = release_mover_lease(session, lease.name.as_str(), holder).await?;
    tracing::debug!(ours, "lease released");
    Ok(())
}
