//! Pause: `POST /v1/queues/{queue}/pause` and `…/resume`. The database remembers it; the owner hears of it before the
//! answer, and a later one reads it.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use tidemill_common::api::{PauseAnswer, PauseRequest, parse};
use tidemill_common::db::DbError;
use tidemill_common::queue::dispatch;

use super::auth::{Caller, Scope};
use super::body;
use super::forward::{Call, Passport};
use super::params::InPath;
use super::problem::Refusal;
use super::state::ApiState;
use super::work::unseen;
use crate::routes::Owner;

/// More than this cannot be paused.
const TOO_MANY: &str = "54000";

/// Hands nothing of it out any more.
pub(super) async fn pause(
    State(state): State<ApiState>,
    caller: Caller,
    passport: Passport,
    InPath(queue): InPath<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    set(&state, &caller, &passport, &queue, (headers, body), true).await
}

/// Takes that back.
pub(super) async fn resume(
    State(state): State<ApiState>,
    caller: Caller,
    passport: Passport,
    InPath(queue): InPath<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    set(&state, &caller, &passport, &queue, (headers, body), false).await
}

async fn set(
    state: &ApiState,
    caller: &Caller,
    passport: &Passport,
    queue: &str,
    (headers, body): (HeaderMap, Body),
    is_paused: bool,
) -> Result<Response, Refusal> {
    caller.check(Scope::Admin, queue)?;
    let bytes = read(&headers, body, state).await?;
    let PauseRequest { types, keys } =
        if bytes.is_empty() { PauseRequest::default() } else { parse(&bytes).map_err(Refusal::invalid)? };
    let Some(route) = state.routes.find(queue) else {
        return Err(unseen(state, caller, Scope::Admin, queue).await);
    };
    let owner = route.owner(state.me);
    if let (Owner::There(address), false) = (&owner, passport.forwarded) {
        let path = format!("/v1/queues/{queue}/{}", if is_paused { "pause" } else { "resume" });
        let call = Call { state, passport, address, method: Method::POST, path: &path, wait: Duration::ZERO };
        return call.relay(bytes).await;
    }
    let queue_id = route.seen.borrow().queue.queue_id;
    let mut session = state.pool.session().await?;
    let names = (types.as_deref(), keys.as_deref());
    let paused = dispatch::pause(&mut session, queue_id, names, is_paused).await.map_err(|e| refused(&e))?;
    drop(session);
    tracing::info!(
        queue.name = queue,
        paused.queue = paused.queue,
        paused.types = paused.types.len(),
        paused.keys = paused.keys.len(),
        "what is paused was changed"
    );
    if owner == Owner::Here {
        // If it is the owner no more, the next one reads it.
        drop(route.handle.pause(crate::serve::pause(&paused)).await);
    }
    let dispatch::Paused { queue, types, keys, .. } = paused;
    Ok(body::ok(PauseAnswer { paused: queue, paused_types: types, paused_keys: keys }).into_response())
}

/// The body, which may be missing.
async fn read(headers: &HeaderMap, body: Body, state: &ApiState) -> Result<Bytes, Refusal> {
    if headers.contains_key(CONTENT_TYPE) {
        body::json(headers, body, &state.limits).await
    } else {
        body::whole(headers, body, &state.limits).await
    }
}

fn refused(error: &DbError) -> Refusal {
    if error.code().is_some_and(|code| code.code() == TOO_MANY) {
        return Refusal::fault("", "at most 1,000 types and 1,000 keys of a queue can be paused");
    }
    Refusal::database(error)
}
