//! Look: `GET /v1/queues` and `GET /v1/queues/{queue}`, from the engines' memory.

use std::collections::HashMap;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
use jiff::Timestamp;
use tidemill_common::api::{
    Backoff, BackoffPreset, ProblemKind, QueueInfo, QueueList, QueueOwner, QueueSettings, WindowSettings,
};
use tidemill_common::db::{DbError, Session, Type};
use tidemill_common::id::{QueueName, WorkerInstance};
use tidemill_common::queue::dispatch::{JobQueue, Paused};
use tokio_postgres::types::Json as Jsonb;

use super::auth::{Caller, Scope};
use super::body::{self, Json};
use super::forward::{Call, Passport};
use super::params::InPath;
use super::problem::Refusal;
use super::produce::no_job_queue;
use super::state::ApiState;
use super::work::unseen;
use crate::command::Shown;
use crate::routes::{Owner, Route};

/// One queue, asked of its owner.
pub(super) async fn queue(
    State(state): State<ApiState>,
    caller: Caller,
    passport: Passport,
    InPath(name): InPath<String>,
) -> Result<Response, Refusal> {
    caller.check(Scope::Read, &name)?;
    let Some(route) = state.routes.find(&name) else {
        return Err(unseen(&state, &caller, Scope::Read, &name).await);
    };
    if let (Owner::There(address), false) = (route.owner(state.me), passport.forwarded) {
        let path = format!("/v1/queues/{name}");
        return call(&state, &passport, &address, &path).relay(Bytes::new()).await;
    }
    let mut session = state.pool.session().await?;
    let queue_id = route.seen.borrow().queue.queue_id;
    let rest = counted(&mut session, Some(queue_id)).await.map_err(|error| Refusal::database(&error))?;
    drop(session);
    match info(&state, &route, &rest).await {
        Some(info) => Ok(body::ok(info).into_response()),
        None => Err(Refusal::new(ProblemKind::Internal, "the queue's name is not one of the API")),
    }
}

/// Every queue that the caller may read. One whose owner does not answer is shown without an owner.
pub(super) async fn queues(
    State(state): State<ApiState>,
    caller: Caller,
    passport: Passport,
) -> Result<Json<QueueList>, Refusal> {
    caller.check_somewhere(Scope::Read)?;
    let mut routes = state.routes.all();
    routes.retain(|route| caller.may(Scope::Read, &route.seen.borrow().queue.name));
    let mut elsewhere: HashMap<QueueName, QueueInfo> = HashMap::new();
    if !passport.forwarded {
        let addresses = addresses(&state, &routes);
        let asked = addresses
            .iter()
            .map(|address| call(&state, &passport, address, "/v1/queues").ask::<QueueList>(&()));
        for list in join_all(asked).await.into_iter().flatten() {
            let owned = list.queues.into_iter().filter(|info| info.owner.is_some());
            elsewhere.extend(owned.map(|info| (info.queue.clone(), info)));
        }
    }
    let mut session = state.pool.session().await?;
    let rest = counted(&mut session, None).await.map_err(|error| Refusal::database(&error))?;
    drop(session);
    let mut queues = Vec::with_capacity(routes.len());
    for route in &routes {
        let Some(mut here) = info(&state, route, &rest).await else { continue };
        if here.owner.is_none()
            && let Some(info) = elsewhere.remove(&here.queue)
        {
            here = info;
        }
        queues.push(here);
    }
    Ok(body::ok(QueueList { queues }))
}

/// The other dispatchers that own some of these queues, each once.
pub(super) fn addresses(state: &ApiState, routes: &[Route]) -> Vec<String> {
    let there = |route: &Route| match route.owner(state.me) {
        Owner::There(address) => Some(address),
        Owner::Here | Owner::Nobody => None,
    };
    let mut addresses: Vec<String> = routes.iter().filter_map(there).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

fn call<'a>(state: &'a ApiState, passport: &'a Passport, address: &'a str, path: &'a str) -> Call<'a> {
    Call { state, passport, address, method: Method::GET, path, wait: Duration::ZERO }
}

/// What is known here of a queue; counts of ready and leased jobs only if this process owns it.
async fn info(state: &ApiState, route: &Route, rest: &Rest) -> Option<QueueInfo> {
    let shown = match route.owner(state.me) {
        Owner::Here => route.handle.show().await.ok(),
        Owner::There(_) | Owner::Nobody => None,
    };
    let queue = route.seen.borrow().queue.clone();
    let outside = rest.counts.get(&queue.queue_id).cloned().unwrap_or_default();
    let owner = shown.as_ref().and_then(|_| owner(&queue));
    let mut settings = settings(&queue);
    if let Some(Shown { window: (jobs, bytes), .. }) = shown {
        settings.window = window(Some(jobs), Some(bytes));
    }
    let rates = shown.as_ref().map(|shown| shown.rates);
    let (ready, limited, leased, oldest_ready) = shown
        .map(|Shown { counts, .. }| (counts.ready, counts.limited, counts.leased, counts.oldest_ready))
        .unwrap_or_default();
    let age = oldest_ready.map(|oldest| rest.now.as_millisecond() - oldest.timestamp().as_millisecond());
    Some(QueueInfo {
        queue: queue.name.parse().ok()?,
        owner,
        ready: ready as u64,
        limited: limited as u64,
        leased: leased as u64 + outside.leased,
        waiting: outside.waiting,
        dead: outside.dead,
        oldest_ready_age_ms: age.map(|age| u64::try_from(age).unwrap_or(0)),
        rates,
        paused: outside.paused.queue,
        paused_types: outside.paused.types,
        paused_keys: outside.paused.keys,
        settings,
    })
}

fn owner(queue: &JobQueue) -> Option<QueueOwner> {
    let owner = &queue.owner;
    Some(QueueOwner {
        instance: WorkerInstance(owner.holder?),
        address: owner.address.clone().unwrap_or_default(),
        epoch: owner.epoch.0,
    })
}

/// What is in force for a queue; of the window only what is the queue's own: the rest is the owner's.
pub(super) fn settings(queue: &JobQueue) -> QueueSettings {
    QueueSettings {
        lease_ms: Some(u64::from(queue.lease_ms.unsigned_abs())),
        max_attempts: Some(queue.max_attempts.unsigned_abs()),
        backoff: Some(match queue.backoff.as_str() {
            "mail" => Backoff::Preset(BackoffPreset::Mail),
            _ => Backoff::Exponential {
                base_ms: u64::from(queue.backoff_base_ms.unsigned_abs()),
                cap_ms: u64::from(queue.backoff_cap_ms.unsigned_abs()),
            },
        }),
        window: window(queue.window_jobs, queue.window_bytes),
        limits: (!queue.limits.is_empty()).then(|| queue.limits.clone()),
        doorbell: Some(queue.doorbell),
    }
}

fn window<T: TryInto<u64>, U: TryInto<u64>>(jobs: Option<T>, bytes: Option<U>) -> Option<WindowSettings> {
    let window = WindowSettings {
        jobs: jobs.and_then(|jobs| jobs.try_into().ok()),
        bytes: bytes.and_then(|bytes| bytes.try_into().ok()),
    };
    (window != WindowSettings::default()).then_some(window)
}

/// What the database knows of queues: the jobs of each that are not in the log, and the time.
struct Rest {
    now: Timestamp,
    counts: HashMap<i32, Outside>,
}

/// Jobs outside the log: in the waiting room, leased or not, and the dead. And what is paused.
#[derive(Debug, Clone, Default)]
struct Outside {
    leased: u64,
    waiting: u64,
    dead: u64,
    paused: Paused,
}

async fn counted(session: &mut Session, queue_id: Option<i32>) -> Result<Rest, DbError> {
    let op = "count waiting and dead jobs";
    let sql = "select c.o_now, c.o_queue_id, c.o_leased, c.o_waiting, c.o_dead, \
               tidemill.dispatch_paused(c.o_queue_id) from tidemill.queue_counts($1) c";
    let rows = session.query(op, sql, &[(&queue_id, Type::INT4)]).await?;
    let database = session.database();
    let read = || -> Result<Rest, tokio_postgres::Error> {
        let mut rest = Rest { now: Timestamp::UNIX_EPOCH, counts: HashMap::new() };
        for row in &rows {
            rest.now = row.try_get(0)?;
            let count = |column: usize| row.try_get(column).map(i64::unsigned_abs);
            let (leased, waiting, dead) = (count(2)?, count(3)?, count(4)?);
            let paused = row.try_get::<_, Option<Jsonb<Paused>>>(5)?.map(|json| json.0).unwrap_or_default();
            rest.counts.insert(row.try_get(1)?, Outside { leased, waiting, dead, paused });
        }
        Ok(rest)
    };
    read().map_err(|error| DbError::decode(op, &database, error))
}

/// Why a queue that discovery has not seen is no job queue; `None`: it is one.
pub(super) async fn missing(session: &mut Session, queue: &str) -> Result<Option<Refusal>, DbError> {
    let sql = "select 1 from tidemill.dispatch_queues() where o_queue = $1";
    if session.query_opt("look for a job queue", sql, &[(&queue, Type::TEXT)]).await?.is_some() {
        return Ok(None);
    }
    no_job_queue(session, queue).await.map(Some)
}
