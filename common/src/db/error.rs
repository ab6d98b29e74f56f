//! What a database call can fail with, and what the caller should do about it.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::error::SqlState;

use super::tls::TlsError;
use super::url::UrlError;

/// What to do about an error; decided in one place, from the SQLSTATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// It may well work next time: connection, deadlock, overload, shutdown.
    Retry,
    /// This input will never work; others will.
    Reject,
    /// Nothing will work until a person changes something: permission, missing object, identity.
    Stop,
}

/// A failed database call. Display names operation and database, the source is the cause.
#[derive(Debug, thiserror::Error)]
#[error("{operation} (database {database})")]
pub struct DbError {
    operation: &'static str,
    database: Arc<str>,
    outcome_unknown: bool,
    #[source]
    cause: DbCause,
}

/// The cause of a [`DbError`].
#[derive(Debug, thiserror::Error)]
pub enum DbCause {
    /// The server answered with an error, or the connection failed under way.
    #[error(transparent)]
    Postgres(tokio_postgres::Error),
    /// The connection could not be made, or the server refused it.
    #[error("no connection to {host}")]
    Connect {
        /// Host and port that was tried.
        host: String,
        /// The failure.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A column is not what the query promised.
    #[error("unexpected column")]
    Decode(#[source] tokio_postgres::Error),
    /// No answer in time; the connection has been given up.
    #[error("no answer within {} ms", .0.as_millis())]
    Deadline(Duration),
    /// No connection could be made within `connect_timeout`.
    #[error("no connection to {host} within {} ms", .limit.as_millis())]
    ConnectTimeout {
        /// Host as it was written in the URL.
        host: String,
        /// `connect_timeout` of the URL.
        limit: Duration,
    },
    /// The host name could not be resolved.
    #[error("cannot resolve {host}")]
    Resolve {
        /// Host as it was written in the URL.
        host: String,
        /// The resolver's answer.
        #[source]
        source: std::io::Error,
    },
    /// A certificate or key could not be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The file with the URL cannot be used any more.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// An earlier statement failed, so the server can only roll this transaction back.
    #[error("an earlier statement of this transaction failed")]
    TransactionFailed,
    /// The connection went away while the transaction was open.
    #[error("the connection was lost")]
    ConnectionLost,
    /// The query promised exactly (or at most) one row.
    #[error("expected one row, got {0}")]
    RowCount(usize),
}

impl DbError {
    pub(crate) fn new(operation: &'static str, database: &Arc<str>, cause: impl Into<DbCause>) -> Self {
        Self { operation, database: Arc::clone(database), outcome_unknown: false, cause: cause.into() }
    }

    pub(crate) fn with_outcome_unknown(mut self, unknown: bool) -> Self {
        self.outcome_unknown = unknown;
        self
    }

    /// For failpoints of the kind executed-then-error: the call was carried out, and its answer never heard.
    #[must_use]
    pub fn unheard(operation: &'static str, database: &Arc<str>) -> Self {
        Self::new(operation, database, DbCause::ConnectionLost).with_outcome_unknown(true)
    }

    /// A column that is not what the query promised. `operation` as in the call that read the row.
    #[must_use]
    pub fn decode(operation: &'static str, database: &Arc<str>, error: tokio_postgres::Error) -> Self {
        Self::new(operation, database, DbCause::Decode(error))
    }

    /// What was tried.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// Name of the database in the configuration.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The cause, for callers that tell cases apart.
    #[must_use]
    pub fn cause(&self) -> &DbCause {
        &self.cause
    }

    /// The server's SQLSTATE, if the server answered.
    #[must_use]
    pub fn code(&self) -> Option<&SqlState> {
        self.postgres().and_then(tokio_postgres::Error::code)
    }

    /// The server's message without severity, detail and hint, if the server answered.
    #[must_use]
    pub fn server_message(&self) -> Option<&str> {
        self.postgres()?.as_db_error().map(tokio_postgres::error::DbError::message)
    }

    fn postgres(&self) -> Option<&tokio_postgres::Error> {
        match &self.cause {
            DbCause::Postgres(error) | DbCause::Connect { source: error, .. } => Some(error),
            _ => None,
        }
    }

    /// Retry, reject or stop.
    #[must_use]
    pub fn class(&self) -> Class {
        match &self.cause {
            DbCause::Postgres(error) => error.code().map_or(Class::Retry, |code| class_of(code.code())),
            DbCause::Connect { source, .. } => {
                source.code().map_or_else(|| class_of_connect(source), |code| class_of(code.code()))
            }
            DbCause::Deadline(_)
            | DbCause::ConnectTimeout { .. }
            | DbCause::Resolve { .. }
            | DbCause::ConnectionLost
            | DbCause::TransactionFailed => Class::Retry,
            DbCause::Tls(_) | DbCause::Url(_) | DbCause::RowCount(_) | DbCause::Decode(_) => Class::Stop,
        }
    }

    /// True if the connection is of no further use: broken, hung, or to a server that no longer is the
    /// primary (25006) or is going away (57P01, 57P02, 57P03).
    #[must_use]
    pub fn is_connection(&self) -> bool {
        match &self.cause {
            DbCause::Postgres(error) => error.code().is_none_or(|code| loses_connection(code.code())),
            DbCause::Connect { .. }
            | DbCause::Deadline(_)
            | DbCause::ConnectTimeout { .. }
            | DbCause::Resolve { .. }
            | DbCause::Tls(_)
            | DbCause::Url(_)
            | DbCause::ConnectionLost => true,
            DbCause::TransactionFailed | DbCause::RowCount(_) | DbCause::Decode(_) => false,
        }
    }

    /// True if the server may have committed this call although it failed: it was sent, and no definite
    /// answer came back.
    #[must_use]
    pub fn outcome_unknown(&self) -> bool {
        self.outcome_unknown
    }
}

/// A connection attempt that ended without an SQLSTATE: the network's failures pass, a certificate that is
/// not accepted, a server without TLS and a password that is missing do not.
fn class_of_connect(error: &tokio_postgres::Error) -> Class {
    use std::error::Error as _;
    let by_tls = |io: &std::io::Error| matches!(io.get_ref(), Some(inner) if inner.is::<rustls::Error>());
    match error.source().and_then(|cause| cause.downcast_ref::<std::io::Error>()) {
        Some(io) if by_tls(io) => Class::Stop,
        Some(_) => Class::Retry,
        None if error.is_closed() => Class::Retry,
        None => Class::Stop,
    }
}

/// True for server errors after which this connection must not be used again.
fn loses_connection(code: &str) -> bool {
    code.starts_with("08")
        || matches!(code, "25006" | "25P03" | "57P01" | "57P02" | "57P03" | "57P04" | "57P05")
        || is_statement_lost(code)
}

/// True where a prepared statement is not, or is already, on the connection that it was to be on: there is a pooler.
pub(super) fn is_statement_lost(code: &str) -> bool {
    matches!(code, "26000" | "42P05")
}

/// True for server errors that leave open whether a commit happened.
pub(crate) fn leaves_outcome_open(code: &str) -> bool {
    code.starts_with("08") || matches!(code, "40003" | "57P01" | "57P02" | "57P03")
}

/// The one match from SQLSTATE to class.
fn class_of(code: &str) -> Class {
    match code {
        // Read-only server (a demoted primary) and idle-in-transaction timeout: a new connection helps.
        "25006" | "25P03" => Class::Retry,
        // A pooler in transaction mode that nobody told us of: the next connection does without prepared statements.
        "26000" | "42P05" => Class::Retry,
        // Locks, serialisation, deadlock.
        "55P03" | "55006" => Class::Retry,
        // Ours: fenced (somebody else owns it now) is an ordinary event, a stale lease concerns one job,
        // not a job queue concerns one queue.
        "TM001" => Class::Retry,
        "TM002" | "TM004" => Class::Reject,
        // Ours: NeedsRebase. After a failover a ticker vouches for the server a moment later; and after a rebase by
        // hand the queues shall go on soon.
        "TM003" => Class::Retry,
        // Ours: mover position mismatch, wrong isolation level.
        "TM005" | "TM006" => Class::Stop,
        // An error that a function raised about its input.
        "P0001" | "P0002" | "P0003" => Class::Reject,
        _ => match code.get(..2).unwrap_or_default() {
            // Connection, transaction rollback, resources, operator intervention, system, internal
            // (XX000 is also "tuple concurrently updated").
            "08" | "40" | "53" | "57" | "58" | "XX" => Class::Retry,
            // Data, integrity, limits exceeded, cardinality.
            "21" | "22" | "23" | "44" | "54" => Class::Reject,
            // Authorisation, missing objects, missing permission, syntax, wrong state: a person must act.
            _ => Class::Stop,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_class_per_sqlstate() {
        for (code, class) in [
            ("08006", Class::Retry),
            ("40001", Class::Retry),
            ("40P01", Class::Retry),
            ("55P03", Class::Retry),
            ("57P01", Class::Retry),
            ("57014", Class::Retry),
            ("53300", Class::Retry),
            ("25006", Class::Retry),
            ("22P05", Class::Reject),
            ("23505", Class::Reject),
            ("P0001", Class::Reject),
            ("TM002", Class::Reject),
            ("42P01", Class::Stop),
            ("42501", Class::Stop),
            ("28P01", Class::Stop),
            ("3D000", Class::Stop),
            ("3F000", Class::Stop),
            ("TM003", Class::Retry),
            ("TM005", Class::Stop),
        ] {
            assert_eq!(class_of(code), class, "{code}");
        }
    }

    #[test]
    fn a_read_only_or_leaving_server_costs_the_connection() {
        assert!(["25006", "57P01", "57P02", "57P03", "08006"].iter().all(|code| loses_connection(code)));
        assert!(!["40001", "57014", "23505"].iter().any(|code| loses_connection(code)));
    }
}
