//! What can go wrong while moving.

use std::sync::Arc;

use tidemill_common::db::{Class, DbError};
use tidemill_common::id::QueueName;
use tidemill_common::schema::SchemaError;
use tidemill_common::service::Classified;

/// A batch could not be moved now. Whatever was done is not committed, or its commit will be found.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// A database call failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The database has not the schema that this program needs.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The source stopped sending pages of a batch before its end.
    #[error("source {source_name} broke off a batch of queue {queue}")]
    BrokenOff {
        /// Name of the source.
        source_name: Arc<str>,
        /// Queue at the source.
        queue: QueueName,
    },
    /// The destination took another number of events than it was sent: nothing was committed.
    #[error("copied {copied} of {sent} events into {queue}")]
    Short {
        /// Queue at the destination.
        queue: QueueName,
        /// Events sent.
        sent: usize,
        /// Events the server counted.
        copied: u64,
    },
    /// A test stopped the mover here.
    #[error("stopped at failpoint: {0}")]
    Failpoint(String),
}

impl Classified for MoveError {
    fn class(&self) -> Class {
        match self {
            Self::Db(error) => error.class(),
            Self::Schema(error) => error.class(),
            Self::BrokenOff { .. } | Self::Short { .. } | Self::Failpoint(_) => Class::Retry,
        }
    }
}
