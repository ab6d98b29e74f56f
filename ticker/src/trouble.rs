//! Why a database is not ticked.

use tidemill_common::db::{Class, DbCause, DbError};
use tidemill_common::schema::SchemaError;
use tidemill_common::service::StepError;

/// A closed set: it labels a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// No connection, or it was lost.
    Unreachable,
    /// It takes calls and does not answer in time.
    Hung,
    /// It refuses this role or what it wants to do.
    Denied,
    /// It has no schema, or that of another version.
    Schema,
    /// Its ticks are another database's (`NeedsRebase`).
    Identity,
    /// A tick was committed without the synchronous standby, and no later write has been confirmed by it yet.
    Unreplicated,
    /// Anything else; the log has the words.
    Failed,
}

/// A tick is visible that a failover may take back.
#[derive(Debug, thiserror::Error)]
#[error("a tick was committed without the synchronous standby, because the wait for it was cancelled")]
pub(crate) struct Unreplicated;

impl Trouble {
    /// The word in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Hung => "hung",
            Self::Denied => "denied",
            Self::Schema => "schema",
            Self::Identity => "identity",
            Self::Unreplicated => "unreplicated",
            Self::Failed => "failed",
        }
    }

    /// What a failed pass says about its database.
    #[must_use]
    pub fn of(error: &StepError) -> Self {
        let source = error.source();
        if source.is::<Unreplicated>() {
            return Self::Unreplicated;
        }
        match source.downcast_ref::<SchemaError>() {
            Some(SchemaError::Db(error)) => Self::of_call(error),
            Some(_) => Self::Schema,
            None => source.downcast_ref::<DbError>().map_or(Self::Failed, Self::of_call),
        }
    }

    fn of_call(error: &DbError) -> Self {
        let code = error.code().map_or("", |code| code.code());
        match error.cause() {
            DbCause::Deadline(_) | DbCause::ConnectTimeout { .. } => Self::Hung,
            _ if code == "TM003" => Self::Identity,
            _ if code.starts_with("28") || code == "42501" => Self::Denied,
            _ if error.is_connection() && error.class() == Class::Retry => Self::Unreachable,
            _ => Self::Failed,
        }
    }
}
