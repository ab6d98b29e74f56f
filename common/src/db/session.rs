//! One connection: opened when needed, thrown away when in doubt.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::error::Elapsed;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::connect::{self, Link, Listeners};
use super::deadlines::Deadlines;
use super::error::{DbCause, DbError, is_statement_lost, leaves_outcome_open};
use super::identity::ServerIdentity;
use super::statements::Statements;
use super::target::{Pooler, Target};
use super::tx::Tx;
use crate::service::Wake;

/// A parameter of a query and its type: `(&name, Type::TEXT)`.
pub type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// One connection to one database for one service. It is opened by the first call that needs it. After a
/// connection error, a missed deadline, or an answer of a server that is read-only or going away
/// (25006, 57P01, 57P02, 57P03) it is closed, and the next call opens another one.
///
/// Every call has a deadline (10 s unless told otherwise). A call that misses it is cancelled on the server.
/// A call whose future is dropped half-way costs the connection.
pub struct Session {
    target: Arc<Target>,
    application: String,
    deadlines: Deadlines,
    link: Option<Link>,
    generation: u64,
    /// There is a pooler that nobody told us of: it does not know what was prepared.
    unnamed: bool,
    /// Plans are made once, not anew for the parameters of the first calls.
    generic_plans: bool,
    pub(super) identity: Option<ServerIdentity>,
    listeners: Listeners,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("target", &self.target.name())
            .field("application", &self.application)
            .field("open", &self.is_open())
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// Whether a failed call may have been committed all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Commits {
    /// An autocommitted statement, or COMMIT: it may.
    Yes,
    /// Inside a transaction, or nothing to commit: it was rolled back.
    No,
}

impl Session {
    /// A session that has not connected yet. `application` is what `pg_stat_activity` shows; services use
    /// `tidemill-<service>`.
    #[must_use]
    pub fn new(target: Arc<Target>, application: &str) -> Self {
        Self {
            target,
            application: application.to_owned(),
            deadlines: Deadlines::new(Duration::from_secs(10)),
            link: None,
            generation: 0,
            unnamed: false,
            generic_plans: false,
            identity: None,
            listeners: Arc::new(Mutex::new(HashMap::new())),
        }
    }

    /// Another deadline for every call, from the next connection on (an open one is closed).
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.close();
        self.deadlines = Deadlines::new(deadline);
        self
    }

    /// Another deadline for the calls of this name only, such as one that grows with what is read. One name at a time;
    /// a longer one than all before holds from the next connection on, because the server has a limit of its own.
    pub fn allow(&mut self, op: &'static str, deadline: Duration) {
        self.deadlines.allow(op, deadline);
    }

    /// Statements within functions are planned once, not anew for the parameters of each of the first calls: for those
    /// who call seldom and whose every plan is the same.
    #[must_use]
    pub fn with_generic_plans(mut self) -> Self {
        self.close();
        self.generic_plans = true;
        self
    }

    /// The database.
    #[must_use]
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// The database's name in the configuration, for errors and labels.
    #[must_use]
    pub fn database(&self) -> Arc<str> {
        self.target.shared_name()
    }

    /// How many connections this session has had. A caller that remembers the number notices that its
    /// connection is another one, and can then compare [`Session::server_identity`].
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// True if there is a connection and nothing is known to be wrong with it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.link.as_ref().is_some_and(Link::is_usable)
    }

    /// True once after a commit on this connection that did not wait for the synchronous standby as it should have,
    /// because somebody cancelled the wait: it is done and visible, and a failover may still take it back.
    pub fn take_unreplicated(&mut self) -> bool {
        self.link.as_ref().is_some_and(|link| link.asides.given_up.swap(false, Ordering::AcqRel))
    }

    /// Gives the connection up. The next call opens another one.
    pub fn close(&mut self) {
        self.link = None;
        self.identity = None;
    }

    /// Runs one statement in autocommit and returns its rows. From the second time on it is a prepared one, unless
    /// there is a pooler in transaction mode.
    ///
    /// # Errors
    /// [`DbError`] naming `op`; [`DbError::outcome_unknown`] if it may have been committed.
    pub async fn query(
        &mut self,
        op: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, DbError> {
        self.open(op).await?;
        self.run_query(op, Commits::Yes, sql, params).await
    }

    /// Like [`Session::query`] for exactly one row.
    ///
    /// # Errors
    /// As [`Session::query`]; also if there is no row or more than one.
    pub async fn query_one(
        &mut self,
        op: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Row, DbError> {
        let rows = self.query(op, sql, params).await?;
        self.exactly_one(op, rows)
    }

    /// Like [`Session::query`] for at most one row.
    ///
    /// # Errors
    /// As [`Session::query`]; also if there is more than one row.
    pub async fn query_opt(
        &mut self,
        op: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Option<Row>, DbError> {
        let rows = self.query(op, sql, params).await?;
        self.at_most_one(op, rows)
    }

    /// Runs one statement in autocommit and returns how many rows it changed.
    ///
    /// # Errors
    /// As [`Session::query`].
    pub async fn execute(
        &mut self,
        op: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<u64, DbError> {
        self.open(op).await?;
        self.run_execute(op, Commits::Yes, sql, params).await
    }

    /// Runs several statements, separated by `;`, without parameters.
    ///
    /// # Errors
    /// As [`Session::query`].
    pub async fn batch(&mut self, op: &'static str, sql: &str) -> Result<(), DbError> {
        self.open(op).await?;
        self.run_batch(op, Commits::Yes, sql).await
    }

    /// Begins a READ COMMITTED transaction. The name is what `pg_stat_activity` shows beside the application.
    ///
    /// # Errors
    /// [`DbError`] naming the transaction.
    pub async fn begin(&mut self, name: &'static str) -> Result<Tx<'_>, DbError> {
        self.open(name).await?;
        let sql = self.begin_sql(name);
        self.run_batch(name, Commits::No, &sql).await?;
        Ok(Tx::new(self, name))
    }

    /// Process id of the server's backend.
    ///
    /// # Errors
    /// As [`Session::query`].
    pub async fn backend_pid(&mut self) -> Result<i32, DbError> {
        let op = "read backend pid";
        let row = self.query_one(op, "select pg_catalog.pg_backend_pid()", &[]).await?;
        row.try_get(0).map_err(|error| DbError::decode(op, &self.database(), error))
    }

    /// Wakes `wake` on every notification of the channel, and when a connection ends. Holds for later
    /// connections too. Returns false behind a pooler in transaction mode, where there are none: poll.
    ///
    /// # Errors
    /// As [`Session::query`].
    pub async fn listen(&mut self, channel: &str, wake: Wake) -> Result<bool, DbError> {
        if self.target.pooler() == Pooler::Transaction {
            return Ok(false);
        }
        let op = "listen";
        self.open(op).await?;
        self.run_batch(op, Commits::No, &listen_sql(channel)).await?;
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.entry(channel.to_owned()).or_default().push(wake);
        Ok(true)
    }

    /// Ends [`Session::listen`] for all who listen to the channel over this session.
    ///
    /// # Errors
    /// As [`Session::query`]; no later connection listens in any case.
    pub async fn unlisten(&mut self, channel: &str) -> Result<(), DbError> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).remove(channel);
        if !self.is_open() {
            return Ok(());
        }
        self.run_batch("unlisten", Commits::No, &format!("un{}", listen_sql(channel))).await
    }

    /// The driver's client, connected, for what this type does not offer. Calls on it have no deadline and
    /// do not tell the session about errors.
    ///
    /// # Errors
    /// [`DbError`] if no connection can be made.
    pub async fn client(&mut self) -> Result<&Client, DbError> {
        self.open("connect").await?;
        self.link().map(|link| &link.client).ok_or_else(|| self.error("connect", DbCause::ConnectionLost))
    }

    /// Makes sure that there is a usable connection.
    ///
    /// # Errors
    /// [`DbError`] naming `op`; the outcome is known: nothing was sent.
    pub async fn open(&mut self, op: &'static str) -> Result<(), DbError> {
        if self.is_open() {
            return Ok(());
        }
        self.close();
        let opened = connect::connect(&self.target, &self.application, &self.listeners).await;
        let mut link = opened.map_err(|cause| self.error(op, cause))?;
        link.statements = Statements::new(self.target.pooler() == Pooler::None && !self.unnamed);
        self.link = Some(link);
        self.generation += 1;
        if self.target.pooler() == Pooler::None {
            self.set_up(op).await?;
        }
        Ok(())
    }

    /// Settings that a role or database may have changed, and LISTEN again; one round trip.
    async fn set_up(&mut self, op: &'static str) -> Result<(), DbError> {
        let mut sql = format!("{}; set synchronous_commit = on", self.timeouts_sql("set"));
        if self.generic_plans {
            sql.push_str("; set plan_cache_mode = force_generic_plan");
        }
        let listeners = Arc::clone(&self.listeners);
        for channel in listeners.lock().unwrap_or_else(PoisonError::into_inner).keys() {
            sql.push_str("; ");
            sql.push_str(&listen_sql(channel));
        }
        let deadline = self.deadlines.usual();
        let Some(link) = self.link.as_mut() else { return Err(self.error(op, DbCause::ConnectionLost)) };
        link.busy = true;
        // Not every platform has the second one: the server then finds out about a vanished client later.
        let both = futures_util::future::join(
            link.client.batch_execute(&sql),
            link.client.batch_execute("set client_connection_check_interval = '5s'"),
        );
        let answer = tokio::time::timeout(deadline, both).await.map(|(first, _)| first);
        let set_up = self.settle(op, Commits::No, answer);
        if set_up.is_err() {
            self.close();
        }
        set_up
    }

    /// Our own limits, so that those of the role do not strike at random.
    fn timeouts_sql(&self, set: &str) -> String {
        let statement = self.deadlines.on_the_server();
        format!(
            "{set} statement_timeout = {statement}; {set} lock_timeout = 0; \
             {set} idle_in_transaction_session_timeout = {statement}"
        )
    }

    fn begin_sql(&self, name: &str) -> String {
        let shown = format!("{}/{name}", self.application).replace('\'', "''");
        let mut sql = format!(
            "begin isolation level read committed; set local application_name = '{shown}'; \
             set local synchronous_commit = on"
        );
        if self.target.pooler() == Pooler::Transaction {
            sql.push_str("; ");
            sql.push_str(&self.timeouts_sql("set local"));
        }
        sql
    }

    pub(super) fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }

    pub(super) fn error(&self, op: &'static str, cause: impl Into<DbCause>) -> DbError {
        DbError::new(op, &self.target.shared_name(), cause)
    }

    pub(super) fn exactly_one(&self, op: &'static str, rows: Vec<Row>) -> Result<Row, DbError> {
        let count = rows.len();
        match (rows.into_iter().next(), count) {
            (Some(row), 1) => Ok(row),
            _ => Err(self.error(op, DbCause::RowCount(count))),
        }
    }

    pub(super) fn at_most_one(&self, op: &'static str, rows: Vec<Row>) -> Result<Option<Row>, DbError> {
        match rows.len() {
            0 | 1 => Ok(rows.into_iter().next()),
            count => Err(self.error(op, DbCause::RowCount(count))),
        }
    }

    pub(super) async fn run_query(
        &mut self,
        op: &'static str,
        commits: Commits,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, DbError> {
        let (deadline, link) = self.engage(op)?;
        let answer = tokio::time::timeout(deadline, link.statements.query(&link.client, sql, params)).await;
        self.settle(op, commits, answer)
    }

    pub(super) async fn run_execute(
        &mut self,
        op: &'static str,
        commits: Commits,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<u64, DbError> {
        let (deadline, link) = self.engage(op)?;
        let answer = tokio::time::timeout(deadline, link.statements.execute(&link.client, sql, params)).await;
        self.settle(op, commits, answer)
    }

    pub(super) async fn run_batch(
        &mut self,
        op: &'static str,
        commits: Commits,
        sql: &str,
    ) -> Result<(), DbError> {
        let (deadline, link) = self.engage(op)?;
        let answer = tokio::time::timeout(deadline, link.client.batch_execute(sql)).await;
        self.settle(op, commits, answer)
    }

    /// Takes the open connection for one call. [`Session::settle`] gives it back.
    pub(super) fn engage(&mut self, op: &'static str) -> Result<(Duration, &mut Link), DbError> {
        let (deadline, database) = (self.deadlines.of(op), self.target.shared_name());
        match self.link.as_mut().filter(|link| link.is_usable()) {
            Some(link) => {
                link.busy = true;
                Ok((deadline, link))
            }
            None => Err(DbError::new(op, &database, DbCause::ConnectionLost)),
        }
    }

    /// Judges the answer of a call: the connection stays, or is closed.
    pub(super) fn settle<T>(
        &mut self,
        op: &'static str,
        commits: Commits,
        answer: Result<Result<T, tokio_postgres::Error>, Elapsed>,
    ) -> Result<T, DbError> {
        let (cause, open_end) = match answer {
            Ok(Ok(value)) => {
                self.release();
                return Ok(value);
            }
            Ok(Err(error)) => {
                let unread = error.is_closed() && self.link.as_ref().is_some_and(Link::is_dismissed);
                self.unnamed |= error.code().is_some_and(|code| is_statement_lost(code.code()));
                let open_end = !unread && error.code().is_none_or(|code| leaves_outcome_open(code.code()));
                (DbCause::Postgres(error), open_end)
            }
            Err(Elapsed { .. }) => {
                if let Some(link) = self.link.take() {
                    link.cancel();
                }
                (DbCause::Deadline(self.deadlines.of(op)), true)
            }
        };
        let error = self.error(op, cause).with_outcome_unknown(open_end && commits == Commits::Yes);
        if error.is_connection() {
            // Still busy, so that its driver is ended at once.
            self.close();
        } else {
            self.release();
        }
        Err(error)
    }

    pub(super) fn release(&mut self) {
        if let Some(link) = &mut self.link {
            link.busy = false;
        }
    }
}

fn listen_sql(channel: &str) -> String {
    format!("listen \"{}\"", channel.replace('"', "\"\""))
}
