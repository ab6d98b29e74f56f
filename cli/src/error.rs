//! What the program says when it does not do what it was asked, and its exit code.

use std::{io, process::ExitCode};

use tidemill_common::{config::ConfigError, db::DbError, error_chain, schema::SchemaError};

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// A sentence that says what is wrong and what would be right.
    #[error("{0}")]
    Refused(String),
    /// As [`CliError::Refused`]: the command line itself is wrong.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error(transparent)]
    Database(#[from] DbError),
    /// The dispatcher at this address.
    #[error("ask the dispatcher at {0}")]
    Ask(String, #[source] reqwest::Error),
    #[error("write the output")]
    Output(#[source] io::Error),
    #[error(transparent)]
    Demo(#[from] anyhow::Error),
}

impl CliError {
    /// 2: usage, 78: configuration, 1: everything else.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            CliError::Usage(_) => ExitCode::from(2),
            CliError::Config(_) => ExitCode::from(78),
            CliError::Refused(_)
            | CliError::Schema(_)
            | CliError::Database(_)
            | CliError::Ask(..)
            | CliError::Output(_)
            | CliError::Demo(_) => ExitCode::from(1),
        }
    }

    /// The error and its causes in one line.
    pub(crate) fn sentence(&self) -> String {
        if let CliError::Database(error) | CliError::Schema(SchemaError::Db(error)) = self
            && let Some(message) = error.server_message()
        {
            return format!("{error}: {message}");
        }
        if let CliError::Demo(error) = self {
            // May quote several lines of a log.
            return format!("{error:#}");
        }
        error_chain(self)
    }
}
