//! What goes to standard output: a table for people, JSON for programs.

use std::io::{self, Write};

use serde::Serialize;

use crate::{error::CliError, table::Table};

/// How a list is printed.
#[derive(clap::Args)]
pub(crate) struct Format {
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// A line (or several) to standard output. A reader that has gone (`| head`) is not an error.
pub(crate) fn say(text: impl AsRef<str>) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{}", text.as_ref().trim_end_matches('\n')).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(CliError::Output(error)),
        _ => Ok(()),
    }
}

/// A list in the wanted format; an empty one says so to people and is `[]` to programs.
pub(crate) fn list<T: Serialize>(
    format: &Format,
    items: &[T],
    table: impl FnOnce() -> Table,
    empty: &str,
) -> Result<(), CliError> {
    if format.json {
        json(&items)
    } else if items.is_empty() {
        say(empty)
    } else {
        say(table().to_string())
    }
}

/// One value as indented JSON.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<(), CliError> {
    say(serde_json::to_string_pretty(value).map_err(io::Error::from).map_err(CliError::Output)?)
}
