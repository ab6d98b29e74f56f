//! One database and this process's term there.

use std::time::Duration;

use tidemill_common::db::{DbError, Session};
use tidemill_common::id::Epoch;
use tidemill_common::queue::tick;
use tidemill_common::service::Shutdown;
use tidemill_common::{error_chain, schema};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;
use uuid::Uuid;

/// A database as the steps share it: one connection, one term. A step holds it for one call, or a few that belong
/// together, so that a rotation does not hold up the ticks.
#[derive(Debug)]
pub struct Database {
    name: String,
    holder: Uuid,
    term: Duration,
    shutdown: Shutdown,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    session: Session,
    /// The schema was found good.
    checked: bool,
    held: Option<Held>,
}

/// A term that this process has, as far as it knows. The database is asked again by every call that depends on it.
#[derive(Debug, Clone, Copy)]
struct Held {
    epoch: Epoch,
    /// When the call that got it was sent.
    since: Instant,
    /// Another connection may lead to another server.
    generation: u64,
}

/// The connection, and the right to work: lives for a few calls.
#[derive(Debug)]
pub struct Active<'d> {
    state: MutexGuard<'d, State>,
    /// Who we are to the database.
    pub holder: Uuid,
    /// Our term.
    pub epoch: Epoch,
}

impl Active<'_> {
    /// The connection.
    pub fn session(&mut self) -> &mut Session {
        &mut self.state.session
    }

    /// Handles a failed call: `Ok` if the term was over, which is no failure: the next pass finds another holder, or
    /// takes the term again.
    ///
    /// # Errors
    /// The error, if it is any other.
    pub fn over(&mut self, error: DbError) -> Result<(), DbError> {
        if error.code().is_some_and(|code| code.code() == TERM_OVER) {
            self.state.held = None;
            tracing::warn!(database.name = error.database(), "ticker term is over");
            return Ok(());
        }
        Err(error)
    }
}

/// SQLSTATE of a call whose term had ended.
const TERM_OVER: &str = "TM001";

impl Database {
    /// A database that is not connected yet.
    #[must_use]
    pub fn new(session: Session, holder: Uuid, term: Duration, shutdown: Shutdown) -> Self {
        let name = session.target().name().to_owned();
        Self {
            name,
            holder,
            term,
            shutdown,
            state: Mutex::new(State { session, checked: false, held: None }),
        }
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes or prolongs the term. `None`: stand by, another ticker has it, or this one is stopping.
    ///
    /// # Errors
    /// [`schema::SchemaError`] until the schema was found good once.
    pub async fn hold(&self) -> Result<Option<Active<'_>>, schema::SchemaError> {
        let mut guard = self.state.lock().await;
        let state = &mut *guard;
        // Asked behind the lock: after `release` nobody takes the term again.
        if self.shutdown.is_wanted() {
            return Ok(None);
        }
        if !state.checked {
            schema::check(&mut state.session).await?;
            state.checked = true;
        }
        let fresh = state.held.filter(|held| {
            held.since.elapsed() < self.term / 3
                && state.session.is_open()
                && held.generation == state.session.generation()
        });
        let epoch = match fresh {
            Some(held) => held.epoch,
            None => {
                let since = Instant::now();
                let Some(epoch) = tick::hold(&mut state.session, self.holder, self.term).await? else {
                    if state.held.take().is_some() {
                        tracing::warn!(database.name = self.name, "another ticker has taken over");
                    }
                    return Ok(None);
                };
                if state.held.is_none_or(|held| held.epoch != epoch) {
                    tracing::info!(database.name = self.name, epoch = epoch.0, "ticking");
                }
                state.held = Some(Held { epoch, since, generation: state.session.generation() });
                epoch
            }
        };
        Ok(Some(Active { state: guard, holder: self.holder, epoch }))
    }

    /// The connection, if this process has the term as far as it knows. Asks the database nothing.
    pub async fn active(&self) -> Option<Active<'_>> {
        let state = self.state.lock().await;
        let epoch = state.held.filter(|held| held.since.elapsed() < self.term)?.epoch;
        Some(Active { state, holder: self.holder, epoch })
    }

    /// Ends the term, if there is one, so that a standby need not wait for its end. A failure is only logged: the term
    /// ends by itself.
    pub async fn release(&self) {
        let mut state = self.state.lock().await;
        let Some(held) = state.held.take() else { return };
        if let Err(error) = tick::release(&mut state.session, self.holder, held.epoch).await {
            tracing::warn!(database.name = self.name, error = %error_chain(&error), "term was not released");
        }
    }
}
