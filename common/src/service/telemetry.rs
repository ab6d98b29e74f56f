//! Logs: text for people, JSON for machines, to standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;

use crate::config::{LogFormat, LogSettings};

/// What `RUST_LOG` or `[log] level` holds is not a filter.
#[derive(Debug, thiserror::Error)]
#[error("\"{text}\" (from {origin}) is not a log level or filter such as info or tidemill_mover=debug")]
pub(super) struct InvalidFilter {
    text: String,
    origin: &'static str,
}

/// Starts logging. `RUST_LOG` wins over `[log] level`. A second call in one process keeps the first's choice.
pub(super) fn start(settings: &LogSettings, rust_log: Option<&str>) -> Result<(), InvalidFilter> {
    let (text, origin) = match rust_log.filter(|text| !text.is_empty()) {
        Some(text) => (text, "RUST_LOG"),
        None => (settings.level.as_str(), "[log] level"),
    };
    let filter =
        EnvFilter::builder().parse(text).map_err(|_| InvalidFilter { text: text.to_owned(), origin })?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match settings.format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
    log_panics();
    if started.is_err() {
        tracing::debug!("logging has been started before");
    }
    Ok(())
}

/// A panic is a log line like any other. Its text is ours; payloads of jobs are never part of an assertion.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, text, "panic");
    }));
}
