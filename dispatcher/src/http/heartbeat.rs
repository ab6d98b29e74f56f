//! Heartbeat: `POST /v1/heartbeat`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method};
use futures_util::future::join_all;
use jiff::Timestamp;
use tidemill_common::api::{HeartbeatAnswer, HeartbeatRequest, HeartbeatResponse, HeartbeatResult};
use tokio::time::Instant;

use super::auth::{Caller, Scope};
use super::body::{self, Json};
use super::forward::{Call, Passport};
use super::group::{Groups, Place, merge, pick};
use super::problem::Refusal;
use super::state::ApiState;
use crate::command::{NamedLease, QueueHandle};
use crate::engine::{Answered, Beat, Extended};

/// Extends leases in bulk, by `extend_ms` or by the queue's own lease. The owner remembers a job's `progress`.
pub(super) async fn heartbeat(
    State(state): State<ApiState>,
    caller: Caller,
    passport: Passport,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<HeartbeatResponse>, Refusal> {
    caller.check_somewhere(Scope::Work)?;
    let request: HeartbeatRequest = body::parsed(&headers, body, &state.limits).await?;
    state.roster.hear(&request.worker, &[], Instant::now());
    let named: Vec<NamedLease> = request.leases.iter().map(|item| item.lease.parse().ok()).collect();
    let groups = Groups::of(&state, &caller, &passport, &named).await;
    let asked = groups.places.iter().map(async |(place, indices)| {
        let ends = match place {
            Place::Here(queue_id) => {
                let beat = |index: &usize| {
                    let item = request.leases.get(*index)?;
                    let progress = item.progress.clone().map(Arc::new);
                    Some(Beat { lease: *named.get(*index)?, ms: item.extend_ms, progress })
                };
                let mine: Vec<Beat> = indices.iter().filter_map(beat).collect();
                match groups.handle(*queue_id) {
                    Some(handle) => here(handle, mine).await,
                    None => Vec::new(),
                }
            }
            Place::There(address) => {
                let leases = pick(&request.leases, indices);
                let part = HeartbeatRequest { worker: request.worker.clone(), leases };
                there(&state, &passport, address, &part).await
            }
            Place::Nobody => Vec::new(),
            Place::Stale => vec![(HeartbeatAnswer::Stale, None, 0); indices.len()],
        };
        (indices.clone(), ends)
    });
    let ends = merge(request.leases.len(), join_all(asked).await, &(HeartbeatAnswer::Unavailable, None, 0));
    let leases = request
        .leases
        .into_iter()
        .zip(ends)
        .map(|(item, (answer, lease_ends_at, cancel))| HeartbeatResult {
            lease: item.lease,
            answer,
            lease_ends_at,
            cancel,
        })
        .collect();
    let state = state.steering.state(request.worker.instance.0);
    Ok(body::ok(HeartbeatResponse { leases, state }))
}

/// An answer, the new end, and not 0 if the job is to be stopped.
type End = (HeartbeatAnswer, Option<Timestamp>, i32);

async fn here(handle: &QueueHandle, leases: Vec<Beat>) -> Vec<End> {
    let Ok(Answered::Heartbeat(extended)) = handle.heartbeat(leases).await else { return Vec::new() };
    let end = |extended: Extended| match extended {
        Extended::Until(end) => (HeartbeatAnswer::Ok, Some(end.timestamp()), 0),
        Extended::Stopping(end, code) => (HeartbeatAnswer::Ok, Some(end.timestamp()), code),
        Extended::Stale => (HeartbeatAnswer::Stale, None, 0),
        Extended::Unavailable => (HeartbeatAnswer::Unavailable, None, 0),
    };
    extended.into_iter().map(end).collect()
}

/// Whatever goes wrong there: repeat.
async fn there(state: &ApiState, passport: &Passport, address: &str, part: &HeartbeatRequest) -> Vec<End> {
    let path = "/v1/heartbeat";
    let call = Call { state, passport, address, method: Method::POST, path, wait: Duration::ZERO };
    match call.ask::<HeartbeatResponse>(part).await {
        Ok(response) => response.leases.into_iter().map(|l| (l.answer, l.lease_ends_at, l.cancel)).collect(),
        Err(_) => Vec::new(),
    }
}
