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
pub mod steering;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tidemill_common::config::{ConfigError, HttpSettings};
use tidemill_common::db::Target;
use tidemill_common::error_chain;
use tidemill_common::service::{BoxError, Context, Pace};

use discover::Discover;
use http::{ApiState, Pool, Tokens};
use metrics::DispatchMetrics;
use routes::Routes;
use serve::Identity;
use steering::Steering;

/// How often a dispatcher looks which queues there are and who owns them.
const DISCOVER: Duration = Duration::from_millis(250);
/// Rows read from the log at a time: a quarter of the default window, and more than the 10,000 or so of a tick, because
/// each read has a price of its own. What bounds the memory of one is its bytes.
const READ_ROWS: i32 = 12_500;
/// Finished leases an owner remembers, to answer `already`.
const FINISHED: usize = 200_000;
/// Requests in one flush.
const FLUSH_UNITS: usize = 2_000;
/// A lease may hold the low-water mark so long before it moves to the waiting room.
const HOLD_MS: u64 = 30_000;
/// A job type that nobody asked for so long is parked when it is in the way.
const ASK_MS: u64 = 10_000;

/// Puts the service together.
///
/// # Errors
/// A sentence about the configuration, or the address that cannot be listened on.
pub fn build(cx: &mut Context) -> Result<(), BoxError> {
    let settings = Arc::clone(&cx.settings);
    let target = database(cx)?;
    let tokens = settings.http.tokens_file.as_deref().map(Tokens::load).transpose();
    let tokens = tokens.map_err(|error| ConfigError::sentence(error_chain(&error)))?;
    let tls = settings.tls.files().map(|(cert, key)| http::acceptor(&cert, &key)).transpose();
    let tls = tls.map_err(|error| ConfigError::sentence(error_chain(&error)))?;
    let (listener, address) = bind(&settings.http)?;
    let advertise = advertised(&settings.http, address, if tls.is_some() { "https" } else { "http" })?;

    let (routes, steering) = (Routes::default(), Steering::default());
    let condition = cx.readiness().condition(&format!("database {}", target.name()));
    let discover = Discover::new(
        cx.session(&target),
        Arc::clone(&target),
        settings.dispatcher.queues.clone(),
        identity(cx, advertise),
        routes.clone(),
        steering.clone(),
        cx.tasks(),
        DispatchMetrics::new(&cx.metrics)?,
        condition,
    );
    cx.run(discover, Pace::every(DISCOVER));

    let limits = http::Limits::from(&settings.http);
    let mut api = ApiState::new(routes, cx.instance, Pool::new(target), limits, tokens, cx.shutdown.clone())?
        .steered_by(steering);
    if let Some(file) = &settings.tls.ca_file {
        api = api.trusting(file).map_err(|error| ConfigError::sentence(error_chain(&error)))?;
    }
    let listener = tokio::net::TcpListener::from_std(listener)?;
    tracing::info!(%address, "http server listening");
    cx.spawn("http", http::serve(listener, tls, http::router(api), cx.shutdown.clone()));
    Ok(())
}

/// The one database to serve.
fn database(cx: &Context) -> Result<Arc<Target>, ConfigError> {
    let mut databases = cx.databases(&cx.settings.dispatcher.databases)?;
    if databases.len() == 1
        && let Some(target) = databases.pop()
    {
        return Ok(target);
    }
    let names: Vec<_> = databases.iter().map(|target| target.name()).collect();
    Err(ConfigError::sentence(format!(
        "dispatcher.databases names {} databases ({}): a dispatcher serves one, say which",
        names.len(),
        names.join(", ")
    )))
}

fn identity(cx: &Context, address: String) -> Identity {
    let settings = &cx.settings.dispatcher;
    Identity {
        instance: cx.instance,
        address,
        term_ms: i32::try_from(settings.term_ms).unwrap_or(i32::MAX),
        read_rows: READ_ROWS,
        limits: engine::Limits {
            window_jobs: settings.window_jobs as usize,
            window_bytes: usize::try_from(settings.window_bytes).unwrap_or(usize::MAX),
            finished: FINISHED,
            flush_units: FLUSH_UNITS,
            hold_ms: HOLD_MS,
            ask_ms: ASK_MS,
        },
    }
}

/// Where other dispatchers reach this one.
fn advertised(settings: &HttpSettings, address: SocketAddr, scheme: &str) -> Result<String, ConfigError> {
    match &settings.advertise {
        Some(url) => Ok(url.trim_end_matches('/').to_owned()),
        None if address.ip().is_unspecified() => Err(ConfigError::sentence(format!(
            "http.listen = {address} is no address that other dispatchers could call: set http.advertise to one, \
             such as {scheme}://dispatcher-1:{}",
            address.port()
        ))),
        None => Ok(format!("{scheme}://{address}")),
    }
}

fn bind(settings: &HttpSettings) -> Result<(TcpListener, SocketAddr), ConfigError> {
    let wanted = settings.address();
    let refuse = |error: std::io::Error| ConfigError::sentence(format!("http.listen = {wanted}: {error}"));
    let listener = TcpListener::bind(wanted).map_err(refuse)?;
    listener.set_nonblocking(true).map_err(refuse)?;
    let address = listener.local_addr().map_err(refuse)?;
    Ok((listener, address))
}
