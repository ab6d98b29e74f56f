//! The few connections that requests share: produce, look and steer. Grabs and results never come here.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidemill_common::db::{Session, Target};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Refusal;

/// Connections at a time.
const CONNECTIONS: usize = 2;
/// Of them, those that streamed bodies may hold: a slow stream must not stop everybody else.
const STREAMS: usize = 1;
/// Requests that wait for a connection; the next one is refused at once.
const WAITING: usize = 1_000;
/// The longest wait for one.
const WAIT: Duration = Duration::from_secs(2);

/// At most two connections to one database, opened when they are needed.
#[derive(Debug, Clone)]
pub struct Pool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    target: Arc<Target>,
    idle: Mutex<Vec<Session>>,
    connections: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Pool {
    /// No connection yet.
    #[must_use]
    pub fn new(target: Arc<Target>) -> Self {
        Self(Arc::new(Inner {
            target,
            idle: Mutex::default(),
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
            streams: Arc::new(Semaphore::new(STREAMS)),
            waiting: Semaphore::new(WAITING),
        }))
    }

    /// A session for one statement or one short transaction.
    pub(super) async fn session(&self) -> Result<Loan, Refusal> {
        let connection = self.0.wait_for(&self.0.connections).await?;
        let idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let session =
            idle.unwrap_or_else(|| Session::new(Arc::clone(&self.0.target), "tidemill-dispatcher/http"));
        Ok(Loan { pool: Arc::clone(&self.0), session: Some(session), _permits: (connection, None) })
    }

    /// A session for a transaction that goes on while a body arrives.
    pub(super) async fn stream_session(&self) -> Result<Loan, Refusal> {
        let stream = self.0.wait_for(&self.0.streams).await?;
        let mut loan = self.session().await?;
        loan._permits.1 = Some(stream);
        Ok(loan)
    }
}

impl Inner {
    async fn wait_for(&self, what: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Refusal> {
        if let Ok(permit) = Arc::clone(what).try_acquire_owned() {
            return Ok(permit);
        }
        let busy = || Refusal::unavailable("the dispatcher's database connections are all in use");
        let _place = self.waiting.try_acquire().map_err(|_| busy())?;
        match tokio::time::timeout(WAIT, Arc::clone(what).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(busy()),
        }
    }
}

/// A session on loan; it goes back when this is dropped. One that was left in the middle of a call, or in a
/// transaction, closes its connection by itself.
#[derive(Debug)]
pub(super) struct Loan {
    pool: Arc<Inner>,
    session: Option<Session>,
    _permits: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
}

impl std::ops::Deref for Loan {
    type Target = Session;
    fn deref(&self) -> &Session {
        self.session.as_ref().expect("a loan has its session until it is dropped")
    }
}

impl std::ops::DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut Session {
        self.session.as_mut().expect("a loan has its session until it is dropped")
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.extend(self.session.take());
    }
}
