//! One database and this process's term there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::Rng;
use tidemill_common::db::{DbError, Session};
use tidemill_common::id::Epoch;
use tidemill_common::queue::tick::{self, Look, Ticked};
use tidemill_common::schema::SchemaError;
use tidemill_common::service::{Shutdown, Wake};
use tidemill_common::{error_chain, schema};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;
use uuid::Uuid;

use crate::cluster::Server;
use crate::memory::Memory;

/// A database as the steps share it: one connection, one term. A step holds it for one call, or a few that belong
/// together, so that a rotation does not hold up the ticks.
#[derive(Debug)]
pub struct Database {
    name: String,
    holder: Uuid,
    term: Duration,
    shutdown: Shutdown,
    wakes: Wakes,
    /// How much later than they are due the idle queues of this database are ticked.
    later: Duration,
    /// The last look said that it is this process's turn to work here.
    serving: AtomicBool,
    state: Mutex<State>,
}

/// What wakes the steps of a database.
#[derive(Debug, Default)]
pub struct Wakes {
    /// Its tick step.
    pub tick: Wake,
    /// Its promote step.
    pub promote: Wake,
    /// Its rotate step.
    pub rotate: Wake,
}

#[derive(Debug)]
struct State {
    session: Session,
    /// The schema was found good.
    checked: bool,
    held: Option<Held>,
    /// Which server the connection of this generation leads to.
    server: Option<(u64, Server)>,
    /// A commit may not have reached the synchronous standby.
    unreplicated: bool,
    memory: Memory,
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

/// The connection, for a few calls.
#[derive(Debug)]
pub struct Connection<'d>(MutexGuard<'d, State>);

impl Connection<'_> {
    /// The connection.
    pub fn session(&mut self) -> &mut Session {
        &mut self.0.session
    }
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
        // It may be committed all the same, and nobody knows whether the standby has it.
        self.state.unreplicated |= error.outcome_unknown();
        Err(error)
    }

    /// What a pass told: these ticks were committed, or maybe others.
    pub fn remember(&mut self, pass: &Result<Vec<Ticked>, DbError>) {
        let state = &mut *self.state;
        match pass {
            Ok(ticked) => state.memory.note(ticked, state.session.generation()),
            // A server that stops in order says so to a call that it has not committed: once it is, it only hangs up.
            Err(error) if error.code().is_some_and(|code| code.code() == SHUTDOWN) => {}
            Err(error) if error.outcome_unknown() => state.memory.doubt(),
            Err(_) => {}
        }
    }

    /// True if the last commit gave up waiting for the synchronous standby.
    pub fn is_unreplicated(&mut self) -> bool {
        self.state.unreplicated |= self.state.session.take_unreplicated();
        self.state.unreplicated
    }
}

/// Idle queues of all databases are due at the same time; they are ticked within so long. Each of these commits
/// costs the others a look: the sooner all is over, the fewer; but those of hundreds at once cost more each.
const SPREAD: Duration = Duration::from_millis(250);
/// SQLSTATE of a call whose term had ended.
const TERM_OVER: &str = "TM001";

/// `admin_shutdown`.
const SHUTDOWN: &str = "57P01";

impl Database {
    /// A database that is not connected yet.
    #[must_use]
    pub fn new(session: Session, holder: Uuid, term: Duration, shutdown: Shutdown) -> Self {
        let name = session.target().name().to_owned();
        let (memory, unreplicated) = (Memory::default(), false);
        let state = State { session, checked: false, held: None, server: None, unreplicated, memory };
        Self {
            name,
            holder,
            term,
            shutdown,
            wakes: Wakes::default(),
            later: rand::rng().random_range(Duration::ZERO..SPREAD),
            serving: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who this process is to the database.
    #[must_use]
    pub fn holder(&self) -> Uuid {
        self.holder
    }

    /// Length of a term.
    #[must_use]
    pub fn term(&self) -> Duration {
        self.term
    }

    /// What wakes its steps.
    #[must_use]
    pub fn wakes(&self) -> &Wakes {
        &self.wakes
    }

    /// Whether it is this process's turn to work here, as of the last look.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Relaxed)
    }

    /// Looks what there is to do, and who is to do it. Writes nothing but, if this ticker serves and a queue has a
    /// doorbell, that it is going to be `asleep` for so long.
    ///
    /// # Errors
    /// [`SchemaError`] until the schema was found good once.
    pub async fn look(&self, asleep: Duration) -> Result<(Look, Server), SchemaError> {
        let mut guard = self.state.lock().await;
        let state = &mut *guard;
        if !state.checked {
            schema::check(&mut state.session).await?;
            state.checked = true;
        }
        let look = tick::look(&mut state.session, self.later, (self.holder, asleep)).await?;
        let mine = look.serving == Some(self.holder);
        state.memory.testify(&mut state.session, mine).await?;
        let running = !look.term.is_zero();
        let others = look.serving.is_some() && !mine;
        if !(mine && running) && state.held.is_some() {
            state.held = state.held.filter(|_| mine);
            if others {
                tracing::warn!(database.name = self.name, "another ticker has taken over");
            } else if let Some(held) = &mut state.held {
                // Over by the database's time, whatever ours says.
                held.generation = u64::MAX;
            }
        }
        // Who served last serves on; whether another one is alive shows only when there is something to do.
        self.serving.store(!others, Ordering::Relaxed);
        let generation = state.session.generation();
        let server = match &state.server {
            Some((known, server)) if *known == generation && server.started == look.server => server.clone(),
            _ => {
                let system = state.session.server_identity().await?.system_identifier;
                let address = tick::address(&mut state.session).await?;
                let server = Server { system, address, started: look.server };
                state.server = Some((state.session.generation(), server.clone()));
                server
            }
        };
        Ok((look, server))
    }

    /// Takes or prolongs the term. `None`: stand by, another ticker has it, or this one is stopping.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn hold(&self) -> Result<Option<Active<'_>>, DbError> {
        let mut guard = self.state.lock().await;
        let state = &mut *guard;
        // Asked behind the lock: after `release` nobody takes the term again.
        if self.shutdown.is_wanted() {
            return Ok(None);
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
                let taken = tick::hold(&mut state.session, self.holder, self.term).await?;
                // The epoch rises when another one takes the term.
                let mine = taken.is_some() && taken == state.held.map(|held| held.epoch);
                state.memory.testify(&mut state.session, mine).await?;
                let Some(epoch) = taken else {
                    if state.held.take().is_some() {
                        tracing::warn!(database.name = self.name, "another ticker has taken over");
                    }
                    self.serving.store(false, Ordering::Relaxed);
                    return Ok(None);
                };
                if state.held.is_none_or(|held| held.epoch != epoch) {
                    tracing::info!(database.name = self.name, epoch = epoch.0, "ticking");
                }
                state.held = Some(Held { epoch, since, generation: state.session.generation() });
                epoch
            }
        };
        self.serving.store(true, Ordering::Relaxed);
        Ok(Some(Active { state: guard, holder: self.holder, epoch }))
    }

    /// Writes something that the synchronous standby has to confirm, if a commit before may not have reached it. False:
    /// that is still so, and nothing may be ticked.
    ///
    /// # Errors
    /// [`DbError`]; a standby that is away is a deadline.
    pub async fn confirm(&self) -> Result<bool, DbError> {
        if !self.state.lock().await.unreplicated {
            return Ok(true);
        }
        let Some(mut active) = self.hold().await? else { return Ok(true) };
        let (holder, epoch) = (active.holder, active.epoch);
        if let Err(error) = tick::confirm(active.session(), holder, epoch, self.term).await {
            active.over(error)?;
            return Ok(false);
        }
        active.state.unreplicated = active.state.session.take_unreplicated();
        let confirmed = !active.state.unreplicated;
        if confirmed {
            tracing::info!(database.name = self.name, "the synchronous standby has all ticks");
        }
        Ok(confirmed)
    }

    /// Has the tick step woken by everything that is sent on a channel; false: nothing can be heard over this connection.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn listen(&self, channel: &str) -> Result<bool, DbError> {
        self.state.lock().await.session.listen(channel, self.wakes.tick.clone()).await
    }

    /// Ends that.
    ///
    /// # Errors
    /// [`DbError`].
    pub async fn unlisten(&self, channel: &str) -> Result<(), DbError> {
        self.state.lock().await.session.unlisten(channel).await
    }

    /// The connection, whoever has the term.
    pub async fn connection(&self) -> Connection<'_> {
        Connection(self.state.lock().await)
    }

    /// The connection, if it is open and nobody uses it.
    #[must_use]
    pub fn spare(&self) -> Option<Connection<'_>> {
        let state = self.state.try_lock().ok()?;
        state.session.is_open().then_some(Connection(state))
    }

    /// Whether this process has the term as far as it knows. Asks the database nothing.
    pub async fn is_held(&self) -> bool {
        self.state.lock().await.held.is_some_and(|held| held.since.elapsed() < self.term)
    }

    /// Gives the term up, if there was one, so that a standby need not wait. A failure is only logged: the term ends by
    /// itself.
    pub async fn release(&self) {
        let mut state = self.state.lock().await;
        let Some(held) = state.held.take() else { return };
        if let Err(error) = tick::release(&mut state.session, self.holder, held.epoch).await {
            tracing::warn!(database.name = self.name, error = %error_chain(&error), "term was not released");
        }
    }
}
