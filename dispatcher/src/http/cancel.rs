//! Cancel: `POST /v1/queues/{queue}/jobs/{id}/cancel` and `POST /v1/queues/{queue}/cancel`. The owner of the queue ends
//! what nobody works on, and tells the handlers of the rest.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use tidemill_common::api::{CancelAnswer, CancelKeyRequest, CancelRequest, ProblemKind, parse};
use tidemill_common::db::{DbError, Type};

use super::auth::{Caller, Scope};
use super::body;
use super::forward::{Call, Passport};
use super::params::InPath;
use super::problem::Refusal;
use super::state::ApiState;
use super::work::unseen;
use crate::engine::{Answered, Target};
use crate::routes::{Owner, Route};

/// One job, by its id.
pub(super) async fn job(
    State(state): State<ApiState>,
    caller: Caller,
    passport: Passport,
    InPath((queue, id)): InPath<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    caller.check(Scope::Work, &queue)?;
    let bytes = body::json(&headers, body, &state.limits).await?;
    let CancelRequest { code } = parse(&bytes).map_err(Refusal::invalid)?;
    let unknown = || {
        Refusal::new(
            ProblemKind::UnknownJob,
            format!("there is no job `{id}`, or it is done: nothing is left to cancel"),
        )
    };
    // Ids are digits in one spelling only.
    let number: i64 = id.parse().ok().filter(|number: &i64| number.to_string() == id).ok_or_else(unknown)?;
    let path = format!("/v1/queues/{queue}/jobs/{number}/cancel");
    let Some(route) = here(&state, &caller, &passport, &queue).await? else {
        return relay(&state, &passport, &queue, &path, bytes).await;
    };
    match place(&state, &route, &queue, number).await?.as_deref() {
        Some("here" | "ready" | "leased" | "waiting") => {
            cancel(&route, &queue, Target::Job(number), code).await
        }
        Some("cancelled") => Ok(body::ok(CancelAnswer { cancelled: 0, told: 0 }).into_response()),
        Some("dead") => Err(Refusal::new(
            ProblemKind::Conflict,
            format!("the job `{id}` is dead, and will not run unless somebody redrives it: purge it instead"),
        )),
        Some("unknown") => Err(Refusal::unavailable(
            "the job is in the log, and nobody can tell at this moment how far it is",
        )),
        Some(_) | None => Err(unknown()),
    }
}

/// All jobs that carry a key.
pub(super) async fn key(
    State(state): State<ApiState>,
    caller: Caller,
    passport: Passport,
    InPath(queue): InPath<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    caller.check(Scope::Work, &queue)?;
    let bytes = body::json(&headers, body, &state.limits).await?;
    let CancelKeyRequest { cancel_key, code } = parse(&bytes).map_err(Refusal::invalid)?;
    let path = format!("/v1/queues/{queue}/cancel");
    match here(&state, &caller, &passport, &queue).await? {
        Some(route) => cancel(&route, &queue, Target::Key(cancel_key), code).await,
        None => relay(&state, &passport, &queue, &path, bytes).await,
    }
}

/// The queue's route, if this process owns it; `None`: another one does.
async fn here(
    state: &ApiState,
    caller: &Caller,
    passport: &Passport,
    queue: &str,
) -> Result<Option<Route>, Refusal> {
    let Some(route) = state.routes.find(queue) else {
        return Err(unseen(state, caller, Scope::Work, queue).await);
    };
    match route.owner(state.me) {
        Owner::Here => Ok(Some(route)),
        Owner::There(_) if !passport.forwarded => Ok(None),
        Owner::There(_) | Owner::Nobody => Err(Refusal::no_owner(queue)),
    }
}

async fn relay(
    state: &ApiState,
    passport: &Passport,
    queue: &str,
    path: &str,
    bytes: Bytes,
) -> Result<Response, Refusal> {
    let owner = state.routes.find(queue).map(|route| route.owner(state.me));
    let Some(Owner::There(address)) = owner else { return Err(Refusal::no_owner(queue)) };
    let call = Call { state, passport, address: &address, method: Method::POST, path, wait: Duration::ZERO };
    call.relay(bytes).await
}

/// Where the job is: `here`, in the owner's window, or a state of `tidemill.job_details`; `None`: there is no such job.
async fn place(state: &ApiState, route: &Route, queue: &str, number: i64) -> Result<Option<String>, Refusal> {
    // How far the log was read, then whether the job is in the window: what is in neither was not read by then.
    let read_to = route.handle.count().await.map_err(|_| Refusal::no_owner(queue))?.read_to;
    if route.handle.look(number).await.map_err(|_| Refusal::no_owner(queue))?.sighting.is_some() {
        return Ok(Some("here".to_owned()));
    }
    let op = "look for a job to cancel";
    let queue_id = route.seen.borrow().queue.queue_id;
    let mut session = state.pool.session().await?;
    let sql = "select tidemill.job_details($1, $2, $3) ->> 'state'";
    let params = [(&queue_id as _, Type::INT4), (&number as _, Type::INT8), (&read_to as _, Type::INT8)];
    let row = session.query_one(op, sql, &params).await.map_err(|error| Refusal::database(&error))?;
    row.try_get(0).map_err(|error| Refusal::database(&DbError::decode(op, &session.database(), error)))
}

async fn cancel(route: &Route, queue: &str, target: Target, code: i32) -> Result<Response, Refusal> {
    match route.handle.cancel(target, code).await {
        Ok(Answered::Cancelled { cancelled, told }) => {
            Ok(body::ok(CancelAnswer { cancelled, told }).into_response())
        }
        Ok(Answered::Refused(why)) => Err(Refusal::fault("", why)),
        Ok(
            Answered::Grab { .. }
            | Answered::Results(_)
            | Answered::Heartbeat(_)
            | Answered::Lent { .. }
            | Answered::Paused,
        )
        | Err(_) => Err(Refusal::no_owner(queue)),
    }
}
