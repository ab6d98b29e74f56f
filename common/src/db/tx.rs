//! A transaction: short, named, READ COMMITTED, rolled back unless committed.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt, SinkExt};
use tokio_postgres::{CopyInSink, Row};

use super::error::{DbCause, DbError};
use super::session::{Commits, Param, Session};

/// An open transaction. Dropping it rolls back; if a call on it was under way, or its connection is in
/// doubt, the connection is closed, which rolls back as well.
#[derive(Debug)]
pub struct Tx<'a> {
    session: &'a mut Session,
    name: &'static str,
    /// The server refuses everything but a rollback after a failed statement.
    failed: bool,
    /// COMMIT or ROLLBACK was answered, or at least sent.
    ended: bool,
}

impl<'a> Tx<'a> {
    pub(super) fn new(session: &'a mut Session, name: &'static str) -> Self {
        Self { session, name, failed: false, ended: false }
    }

    /// The name given to [`Session::begin`].
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The database's name in the configuration, for errors and labels.
    #[must_use]
    pub fn database(&self) -> Arc<str> {
        self.session.database()
    }

    /// Runs one statement and returns its rows.
    ///
    /// # Errors
    /// [`DbError`]; the transaction can then only be rolled back.
    pub async fn query(
        &mut self,
        op: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, DbError> {
        let answer = self.session.run_query(op, Commits::No, sql, params).await;
        self.note(answer)
    }

    /// Like [`Tx::query`] for exactly one row.
    ///
    /// # Errors
    /// As [`Tx::query`]; also if there is no row or more than one.
    pub async fn query_one(
        &mut self,
        op: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Row, DbError> {
        let rows = self.query(op, sql, params).await?;
        self.session.exactly_one(op, rows)
    }

    /// Like [`Tx::query`] for at most one row.
    ///
    /// # Errors
    /// As [`Tx::query`]; also if there is more than one row.
    pub async fn query_opt(
        &mut self,
        op: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Option<Row>, DbError> {
        let rows = self.query(op, sql, params).await?;
        self.session.at_most_one(op, rows)
    }

    /// Runs one statement and returns how many rows it changed.
    ///
    /// # Errors
    /// As [`Tx::query`].
    pub async fn execute(
        &mut self,
        op: &'static str,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<u64, DbError> {
        let answer = self.session.run_execute(op, Commits::No, sql, params).await;
        self.note(answer)
    }

    /// Runs several statements, separated by `;`, without parameters.
    ///
    /// # Errors
    /// As [`Tx::query`].
    pub async fn batch(&mut self, op: &'static str, sql: &str) -> Result<(), DbError> {
        let answer = self.session.run_batch(op, Commits::No, sql).await;
        self.note(answer)
    }

    /// Begins `copy … from stdin`. The stream must be ended by [`CopyIn::finish`].
    ///
    /// # Errors
    /// As [`Tx::query`].
    pub async fn copy_in(&mut self, op: &'static str, sql: &str) -> Result<CopyIn<'_, 'a>, DbError> {
        let answer = match self.session.engage(op) {
            Ok((deadline, link)) => {
                // The statement is named for the length of this call and closed in this transaction, on the
                // same server connection even behind a pooler.
                let answer = tokio::time::timeout(deadline, link.client.copy_in(sql)).await;
                self.session.settle(op, Commits::No, answer)
            }
            Err(error) => Err(error),
        };
        let sink = self.note(answer)?;
        // Until it is finished: a stream dropped half-way is a failed statement to the server.
        self.failed = true;
        Ok(CopyIn { tx: self, op, sink: Box::pin(sink) })
    }

    /// A point to return to within this transaction.
    ///
    /// # Errors
    /// As [`Tx::query`].
    pub async fn savepoint(&mut self, name: &'static str) -> Result<(), DbError> {
        self.batch(name, &format!("savepoint {name}")).await
    }

    /// Undoes everything since [`Tx::savepoint`], failed statements too.
    ///
    /// # Errors
    /// As [`Tx::query`].
    pub async fn rollback_to(&mut self, name: &'static str) -> Result<(), DbError> {
        self.batch(name, &format!("rollback to savepoint {name}")).await?;
        self.failed = false;
        Ok(())
    }

    /// Makes the transaction durable.
    ///
    /// # Errors
    /// [`DbError`]. If [`DbError::outcome_unknown`], the server may have committed: look before doing it
    /// again. Otherwise it was rolled back.
    pub async fn commit(mut self) -> Result<(), DbError> {
        if self.failed {
            // The server would answer COMMIT with ROLLBACK, and no error.
            return Err(self.session.error(self.name, DbCause::TransactionFailed));
        }
        // From here on a rollback could only follow the commit: if this future is dropped now, the connection
        // is busy and closed by its next user.
        self.ended = true;
        self.session.run_batch(self.name, Commits::Yes, "commit").await
    }

    /// Like [`Tx::commit`], with one last statement in the same message: the server waits for no client between the
    /// two.
    ///
    /// # Errors
    /// As [`Tx::commit`]; a statement that fails rolls back.
    pub async fn commit_after(mut self, last: &str) -> Result<(), DbError> {
        if self.failed {
            return Err(self.session.error(self.name, DbCause::TransactionFailed));
        }
        self.ended = true;
        let answer = self.session.run_batch(self.name, Commits::Yes, &format!("{last}; commit")).await;
        // A definite error left the transaction open: it is rolled back when this is dropped.
        self.ended = answer.as_ref().err().is_none_or(DbError::outcome_unknown);
        answer
    }

    /// Rolls back and waits for it.
    ///
    /// # Errors
    /// [`DbError`]; the connection is closed then, which rolls back as well.
    pub async fn rollback(mut self) -> Result<(), DbError> {
        self.ended = true;
        if self.session.is_open() {
            self.session.run_batch(self.name, Commits::No, "rollback").await?;
        }
        Ok(())
    }

    fn note<T>(&mut self, answer: Result<T, DbError>) -> Result<T, DbError> {
        self.failed |= answer.is_err();
        answer
    }
}

impl Drop for Tx<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        match self.session.link().filter(|link| link.is_usable()) {
            // Sending needs no waiting: the message is queued by the first poll, the answer is of no interest,
            // and the next call on this connection comes after it.
            Some(link) => drop(link.client.batch_execute("rollback").now_or_never()),
            None => self.session.close(),
        }
    }
}

/// A running `copy … from stdin`. Dropped before [`CopyIn::finish`], it is aborted and fails its transaction.
pub struct CopyIn<'t, 'a> {
    tx: &'t mut Tx<'a>,
    op: &'static str,
    sink: Pin<Box<CopyInSink<Bytes>>>,
}

impl CopyIn<'_, '_> {
    /// Sends one piece, of any size; rows may span pieces.
    ///
    /// # Errors
    /// As [`Tx::query`].
    pub async fn send(&mut self, piece: Bytes) -> Result<(), DbError> {
        let session = &mut *self.tx.session;
        let (deadline, _) = session.engage(self.op)?;
        let mut answer = tokio::time::timeout(deadline, self.sink.send(piece)).await;
        if matches!(&answer, Ok(Err(error)) if error.is_closed()) {
            // The server has given the stream up; why, it says to whoever reads the answer.
            let finish = tokio::time::timeout(deadline, self.sink.as_mut().finish()).await;
            answer = finish.map(|outcome| outcome.map(|_rows| ()));
        }
        session.settle(self.op, Commits::No, answer)
    }

    /// Ends the stream and returns the number of rows.
    ///
    /// # Errors
    /// As [`Tx::query`]: a row the server could not read is reported here at the latest.
    pub async fn finish(mut self) -> Result<u64, DbError> {
        let session = &mut *self.tx.session;
        let (deadline, _) = session.engage(self.op)?;
        let answer = tokio::time::timeout(deadline, self.sink.as_mut().finish()).await;
        let rows = session.settle(self.op, Commits::No, answer)?;
        self.tx.failed = false;
        Ok(rows)
    }
}

impl std::fmt::Debug for CopyIn<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopyIn").field("op", &self.op).finish_non_exhaustive()
    }
}
