//! Steer: `PUT /v1/queues/{queue}` creates a job queue or changes its settings.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;
use tidemill_common::api::{Backoff, BackoffPreset, ProblemKind, QueueLimits, QueueSettings};
use tidemill_common::db::{DbError, Session, Type};
use tidemill_common::id::QueueName;
use tidemill_common::queue::dispatch;

use super::auth::{Caller, Scope};
use super::body::{self, Json};
use super::look;
use super::params::InPath;
use super::problem::Refusal;
use super::state::ApiState;

/// `201` if it was created, else `200`, with the settings in force.
pub(super) async fn settings(
    State(state): State<ApiState>,
    caller: Caller,
    InPath(name): InPath<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<QueueSettings>, Refusal> {
    caller.check(Scope::Admin, &name)?;
    let name: QueueName = name.parse().map_err(|error| Refusal::fault("", format!("{error}")))?;
    let wanted: QueueSettings = body::parsed(&headers, body, &state.limits).await?;
    let mut session = state.pool.session().await?;
    let (is_new, settings) =
        put(&mut session, &name, &wanted).await.map_err(|error| Refusal::database(&error))?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    match settings {
        Some(settings) => Ok(Json(status, settings)),
        None => Err(Refusal::new(ProblemKind::Conflict, "the queue was dropped at this moment")),
    }
}

async fn put(
    session: &mut Session,
    name: &QueueName,
    wanted: &QueueSettings,
) -> Result<(bool, Option<QueueSettings>), DbError> {
    #[derive(Serialize)]
    struct Row<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        lease_ms: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        max_attempts: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        backoff: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        backoff_base_ms: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        backoff_cap_ms: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        window_jobs: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        window_bytes: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        doorbell: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        limits: Option<&'a QueueLimits>,
    }
    let (backoff, base_and_cap) = match wanted.backoff {
        None => (None, None),
        Some(Backoff::Exponential { base_ms, cap_ms }) => (Some("exponential"), Some((base_ms, cap_ms))),
        Some(Backoff::Preset(BackoffPreset::Mail)) => (Some("mail"), None),
    };
    let row = Row {
        lease_ms: wanted.lease_ms,
        max_attempts: wanted.max_attempts,
        backoff,
        backoff_base_ms: base_and_cap.map(|(base_ms, _)| base_ms),
        backoff_cap_ms: base_and_cap.map(|(_, cap_ms)| cap_ms),
        window_jobs: wanted.window.and_then(|window| window.jobs),
        window_bytes: wanted.window.and_then(|window| window.bytes),
        limits: wanted.limits.as_ref(),
        doorbell: wanted.doorbell,
    };
    let op = "create or change a job queue";
    let sql = "select tidemill.create_job_queue($1, $2)";
    let settings = serde_json::json!(row);
    let row = session.query_one(op, sql, &[(&name.as_str(), Type::TEXT), (&settings, Type::JSONB)]).await?;
    let created: i32 = row.try_get(0).map_err(|error| DbError::decode(op, &session.database(), error))?;
    let queues = dispatch::queues(session).await?;
    let in_force = queues.iter().find(|queue| queue.name == name.as_str()).map(look::settings);
    Ok((created == 1, in_force))
}
