//! What Kubernetes and Prometheus ask: `/livez`, `/readyz`, `/metrics`, on a port of their own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;

use super::shutdown::Shutdown;

/// When each loop of the process last showed life.
#[derive(Debug, Clone, Default)]
pub(super) struct Beats(Arc<Mutex<BTreeMap<u64, LoopLife>>>);

#[derive(Debug)]
struct LoopLife {
    name: String,
    last: Instant,
    /// Waiting for work, stop or the end of a back-off: silence is no sign of death.
    waiting: bool,
}

impl Beats {
    /// A new loop, which lives until the result is dropped.
    pub(super) fn join(&self, name: String) -> Beat {
        let mut loops = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = loops.last_key_value().map_or(0, |(last, _)| last + 1);
        loops.insert(number, LoopLife { name, last: Instant::now(), waiting: false });
        Beat { beats: self.clone(), number }
    }

    /// Loops that have been in one pass for longer than `limit`.
    fn stalled(&self, limit: Duration) -> Vec<String> {
        let loops = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let dead = loops.values().filter(|life| !life.waiting && life.last.elapsed() > limit);
        dead.map(|life| life.name.clone()).collect()
    }
}

/// One loop's heartbeat.
#[derive(Debug)]
pub(super) struct Beat {
    beats: Beats,
    number: u64,
}

impl Beat {
    pub(super) fn beat(&self) {
        self.set(false);
    }

    /// Until the result is dropped, this loop waits.
    pub(super) fn waiting(&self) -> Waiting<'_> {
        self.set(true);
        Waiting(self)
    }

    fn set(&self, waiting: bool) {
        let mut loops = self.beats.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(life) = loops.get_mut(&self.number) {
            (life.last, life.waiting) = (Instant::now(), waiting);
        }
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.beats.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

/// A loop that waits; dropped when it goes on.
#[derive(Debug)]
pub(super) struct Waiting<'b>(&'b Beat);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// What must hold before this process is sent work: named conditions, all of them.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<watch::Sender<BTreeMap<String, bool>>>);

impl Readiness {
    /// A condition that does not hold yet.
    #[must_use]
    pub fn condition(&self, name: &str) -> Condition {
        self.0.send_modify(|conditions| {
            conditions.insert(name.to_owned(), false);
        });
        Condition { all: self.clone(), name: name.into() }
    }

    /// The conditions that do not hold; none: ready.
    #[must_use]
    pub fn unmet(&self) -> Vec<String> {
        self.0.borrow().iter().filter(|(_, met)| !**met).map(|(name, _)| name.clone()).collect()
    }

    /// Waits until all conditions hold.
    pub async fn all_met(&self) {
        let all = |conditions: &BTreeMap<String, bool>| conditions.values().all(|met| *met);
        self.0.subscribe().wait_for(all).await.map(drop).expect("the sender is held by self");
    }
}

/// One named condition of readiness.
#[derive(Debug, Clone)]
pub struct Condition {
    all: Readiness,
    name: Arc<str>,
}

impl Condition {
    /// Whether it holds now.
    pub fn set(&self, met: bool) {
        self.all.0.send_if_modified(|conditions| match conditions.get_mut(&*self.name) {
            Some(value) if *value != met => {
                *value = met;
                true
            }
            _ => false,
        });
    }

    /// It holds.
    pub fn met(&self) {
        self.set(true);
    }

    /// It does not hold any more.
    pub fn unmet(&self) {
        self.set(false);
    }

    /// It no longer matters: a database that was taken out of service, for example.
    pub fn forget(self) {
        self.all.0.send_modify(|conditions| {
            conditions.remove(&*self.name);
        });
    }
}

/// What the admin server answers from.
#[derive(Debug, Clone)]
pub(super) struct Admin {
    pub beats: Beats,
    pub readiness: Readiness,
    pub metrics: Registry,
    pub shutdown: Shutdown,
    /// A loop in one pass for longer than this is dead.
    pub stalled_after: Duration,
}

impl Admin {
    pub(super) fn router(self) -> Router {
        Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(self)
    }

    /// Serves until the process ends: probes and metrics are answered while it drains, too.
    pub(super) async fn serve(self, listener: TcpListener) -> std::io::Result<()> {
        axum::serve(listener, self.router()).await
    }
}

async fn livez(State(admin): State<Admin>) -> Response {
    verdict(admin.beats.stalled(admin.stalled_after), "stalled")
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let mut unmet = admin.readiness.unmet();
    if admin.shutdown.is_wanted() {
        unmet.push("shutting down".to_owned());
    }
    verdict(unmet, "not ready")
}

fn verdict(objections: Vec<String>, word: &str) -> Response {
    if objections.is_empty() {
        return (StatusCode::OK, "ok\n").into_response();
    }
    let lines = objections.iter().map(|name| format!("{word}: {name}\n")).collect::<String>();
    (StatusCode::SERVICE_UNAVAILABLE, lines).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match TextEncoder::new().encode_to_string(&admin.metrics.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
#[path = "admin_tests.rs"]
mod tests;
