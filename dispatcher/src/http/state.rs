//! What every request may use.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidemill_common::config::HttpSettings;
use tidemill_common::service::Shutdown;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::auth::Tokens;
use super::budget::Budget;
use super::forward;
use super::pool::Pool;
use super::problem::Refusal;
use super::repeat::Repeats;
use super::roster::Roster;
use super::tls::{self, TlsError};
use super::turns::Turns;
use crate::routes::Routes;
use crate::steering::Steering;
use tidemill_common::api::ProblemKind;

/// What one request, and all of them together, may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a body, and of one line of a streamed one.
    pub body_bytes: usize,
    /// How deep JSON may be nested.
    pub json_depth: usize,
    /// A body must have arrived within this time; of a streamed one, each part of a transaction.
    pub body_wait: Duration,
    /// A streamed body must have arrived within this time: its transaction is open as long.
    pub stream_wait: Duration,
    /// Bytes of all bodies at a time.
    pub bodies_bytes: usize,
    /// Requests that wait for jobs at a time.
    pub polls: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 1 << 20,
            json_depth: 64,
            // Shorter than the database waits for an idle transaction.
            body_wait: Duration::from_secs(10),
            stream_wait: Duration::from_secs(600),
            bodies_bytes: 256 << 20,
            polls: 10_000,
        }
    }
}

impl From<&HttpSettings> for Limits {
    fn from(settings: &HttpSettings) -> Self {
        Self {
            body_bytes: usize::try_from(settings.body_limit_bytes).unwrap_or(usize::MAX),
            polls: settings.max_polls as usize,
            ..Self::default()
        }
    }
}

/// Shared by all requests: a handle, cheap to clone.
#[derive(Debug, Clone)]
pub struct ApiState(Arc<Inner>);

/// What is behind the handle.
#[derive(Debug, Clone)]
pub struct Inner {
    pub(super) routes: Routes,
    /// This process.
    pub(super) me: Uuid,
    pub(super) pool: Pool,
    pub(super) client: reqwest::Client,
    pub(super) limits: Limits,
    /// `None`: everything is allowed; then the server listens on loopback only.
    pub(super) tokens: Option<Arc<Tokens>>,
    pub(super) shutdown: Shutdown,
    pub(super) repeats: Arc<Repeats>,
    pub(super) roster: Arc<Roster>,
    pub(super) steering: Steering,
    pub(super) bodies: Budget,
    pub(super) turns: Arc<Turns>,
    polls: Arc<Semaphore>,
}

impl Deref for ApiState {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl ApiState {
    /// The API of the dispatcher `me` for the database behind `pool`.
    ///
    /// # Errors
    /// The client that forwards to other dispatchers cannot be made: no TLS roots in this machine.
    pub fn new(
        routes: Routes,
        me: Uuid,
        pool: Pool,
        limits: Limits,
        tokens: Option<Tokens>,
        shutdown: Shutdown,
    ) -> Result<Self, reqwest::Error> {
        Ok(Self(Arc::new(Inner {
            routes,
            me,
            pool,
            client: forward::client(Vec::new())?,
            limits,
            tokens: tokens.map(Arc::new),
            shutdown,
            repeats: Arc::default(),
            roster: Arc::default(),
            steering: Steering::default(),
            bodies: Budget::new(limits.bodies_bytes),
            turns: Arc::default(),
            polls: Arc::new(Semaphore::new(limits.polls.min(Semaphore::MAX_PERMITS))),
        })))
    }

    /// Trusts the authorities of this file, too, when it forwards to other dispatchers.
    ///
    /// # Errors
    /// [`TlsError`]
    pub fn trusting(self, path: &Path) -> Result<Self, TlsError> {
        let refused = |source| TlsError::Authorities { path: path.to_owned(), source };
        let client = forward::client(tls::authorities(path)?).map_err(refused)?;
        Ok(Self(Arc::new(Inner { client, ..Arc::unwrap_or_clone(self.0) })))
    }

    /// Tells workers what somebody else reads, too, as discovery does.
    #[must_use]
    pub fn steered_by(self, steering: Steering) -> Self {
        Self(Arc::new(Inner { steering, ..Arc::unwrap_or_clone(self.0) }))
    }

    /// A place among those who wait for jobs, held while waiting.
    pub(super) fn waiting_place(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.polls).try_acquire_owned().map_err(|_| {
            Refusal::new(
                ProblemKind::TooManyRequests,
                format!(
                    "{} requests wait for jobs already: ask again, or with `wait_ms` 0",
                    self.limits.polls
                ),
            )
        })
    }
}
