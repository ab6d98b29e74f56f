//! The dispatcher: owns job queues, leases jobs to workers over HTTP, records results.
//!
//! [`discover`] sees which queues there are and starts a [`serve::QueueServer`] for each; the server that owns its
//! queue drives the pure [`engine`]; requests reach it as [`command`]s, by the [`routes`].

pub mod command;
pub mod discover;
pub mod engine;
pub mod http;
pub mod metrics;
pub mod routes;
pub mod serve;

use std::sync::Arc;

use tidemill_common::config::ConfigError;
use tidemill_common::service::{BoxError, Context, Pace};

use discover::Discover;
use engine::Limits;
use metrics::DispatchMetrics;
use routes::Routes;
use serve::Identity;

/// Rows read from the log at a time: a bound on the memory of one read, not on the window.
const READ_ROWS: i32 = 5_000;
/// Finished leases an owner remembers, to answer `already`.
const FINISHED: usize = 200_000;
/// Requests in one flush.
const FLUSH_UNITS: usize = 2_000;

/// Puts the service together.
///
/// # Errors
/// A sentence about the configuration, or the address that cannot be listened on.
pub fn build(cx: &mut Context) -> Result<(), BoxError> {
    let settings = &cx.settings.dispatcher;
    let databases = cx.databases(&settings.databases)?;
    let [target] = databases.as_slice() else {
        let names: Vec<_> = databases.iter().map(|t| t.name()).collect();
        let names = names.join(", ");
        return Err(ConfigError::sentence(format!(
            "dispatcher.databases names {} databases ({names}): a dispatcher serves one, say which",
            databases.len()
        ))
        .into());
    };
    let identity = Identity {
        instance: cx.instance,
        address: String::new(),
        term_ms: i32::try_from(settings.term_ms).unwrap_or(i32::MAX),
        read_rows: READ_ROWS,
        limits: Limits {
            window_jobs: settings.window_jobs as usize,
            window_bytes: usize::try_from(settings.window_bytes).unwrap_or(usize::MAX),
            finished: FINISHED,
            flush_units: FLUSH_UNITS,
        },
    };
    let routes = Routes::default();
    let condition = cx.readiness().condition(&format!("database {}", target.name()));
    let discover = Discover::new(
        cx.session(target),
        Arc::clone(target),
        settings.queues.clone(),
        identity,
        routes,
        cx.tasks(),
        DispatchMetrics::new(&cx.metrics)?,
        condition,
    );
    cx.run(discover, Pace::every(std::time::Duration::from_millis(250)));
    Ok(())
}
