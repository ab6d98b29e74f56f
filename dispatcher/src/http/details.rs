//! Details of one job: `GET /v1/queues/{queue}/jobs/{id}`. The owner's window knows the jobs it holds, the database
//! the others.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use tidemill_common::api::{Child, FailureRecord, Holder, JobDetails, JobState, Origin, ProblemKind};
use tidemill_common::db::{DbError, Session, Type};
use tidemill_common::id::{QueueName, WorkerInstance};
use tokio_postgres::types::Json;

use super::auth::{Caller, Scope};
use super::body;
use super::forward::{Call, Passport};
use super::job;
use super::params::InPath;
use super::problem::Refusal;
use super::state::ApiState;
use super::work::unseen;
use crate::command::Sighting;
use crate::routes::Owner;

/// Where a job is, and what happened to it.
pub(super) async fn job(
    State(state): State<ApiState>,
    caller: Caller,
    passport: Passport,
    InPath((name, id)): InPath<(String, String)>,
) -> Result<Response, Refusal> {
    caller.check(Scope::Read, &name)?;
    let Some(route) = state.routes.find(&name) else {
        return Err(unseen(&state, &caller, Scope::Read, &name).await);
    };
    let unknown =
        || Refusal::new(ProblemKind::UnknownJob, format!("there is no job `{id}`, or it was done long ago"));
    let queue: QueueName = name.parse().map_err(|_| unknown())?;
    // Ids are digits in one spelling only.
    let number: i64 = id.parse().ok().filter(|number: &i64| number.to_string() == id).ok_or_else(unknown)?;

    let owner = route.owner(state.me);
    if let (Owner::There(address), false) = (&owner, passport.forwarded) {
        let path = format!("/v1/queues/{queue}/jobs/{number}");
        let (state, passport, wait) = (&state, &passport, Duration::ZERO);
        return Call { state, passport, address, method: Method::GET, path: &path, wait }
            .relay(Bytes::new())
            .await;
    }
    let mut read_to = None;
    let (mut sighting, mut progress) = (None, None);
    if owner == Owner::Here {
        let lost = |_| Refusal::no_owner(queue.as_str());
        // How far the log was read, then whether the job is in the window: what is in neither was not read by then.
        read_to = Some(route.handle.count().await.map_err(lost)?.read_to);
        let looked = route.handle.look(number).await.map_err(lost)?;
        (sighting, progress) = (looked.sighting, looked.progress);
    }
    let queue_id = route.seen.borrow().queue.queue_id;
    let mut session = state.pool.session().await?;
    let mut details = match sighting {
        Some(sighting) => {
            let known = known(&mut session, queue_id, number).await;
            seen(&queue, number, &sighting, known.map_err(|error| Refusal::database(&error))?)?
        }
        None => {
            let stored = stored(&mut session, queue_id, number, read_to).await;
            stored.map_err(|error| Refusal::database(&error))?.ok_or_else(unknown)?.show(queue, number)?
        }
    };
    // A worker that completes a job in its own transaction does not tell the owner: that may still remember.
    let is_unfinished = matches!(details.state, JobState::Ready | JobState::Leased | JobState::Waiting);
    details.progress = progress.filter(|_| is_unfinished).map(Arc::unwrap_or_clone);
    Ok(body::ok(details).into_response())
}

/// A job in the window.
fn seen(
    queue: &QueueName,
    number: i64,
    sighting: &Sighting,
    (failures, origin): (Vec<FailureRecord>, Option<Origin>),
) -> Result<JobDetails, Refusal> {
    let Sighting { entry, lease, max_attempts } = sighting;
    let holder = lease.as_ref().map(|(_, holder)| Holder {
        instance: WorkerInstance(holder.instance),
        host: Some(holder.host.clone()).filter(|host| !host.is_empty()),
        pid: Some(holder.pid).filter(|pid| *pid != 0),
    });
    Ok(JobDetails {
        id: job::id(number)?,
        queue: queue.clone(),
        job_type: entry.event.kind.clone().unwrap_or_default(),
        state: if lease.is_some() { JobState::Leased } else { JobState::Ready },
        args: job::args(entry.event.data.as_deref())?,
        options: job::options(entry.event.extra[0].as_deref()).unwrap_or_default(),
        attempts: entry.attempt.unsigned_abs(),
        max_attempts: max_attempts.unsigned_abs(),
        inserted_at: entry.inserted_at.timestamp(),
        run_at: None,
        failures,
        holder,
        lease_ends_at: lease.as_ref().map(|(end, _)| end.timestamp()),
        origin,
        children: Vec::new(),
        result: None,
        progress: None,
    })
}

/// What `tidemill.job_details` returns.
#[derive(Debug, Deserialize)]
struct Stored {
    state: Place,
    attempt: i32,
    max_attempts: i32,
    time: Timestamp,
    #[serde(rename = "type")]
    kind: Option<String>,
    data: Option<String>,
    extra1: Option<String>,
    due: Option<Timestamp>,
    holder: Option<Holder>,
    failures: Vec<FailureRecord>,
    origin: Option<Origin>,
    /// JSON, as its worker handed it in.
    result: Option<String>,
    #[serde(default)]
    children: Vec<Child>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Place {
    Ready,
    Leased,
    Waiting,
    Done,
    Replaced,
    Dead,
    Cancelled,
    Unknown,
}

impl Stored {
    fn show(self, queue: QueueName, number: i64) -> Result<JobDetails, Refusal> {
        let state = match self.state {
            Place::Ready => JobState::Ready,
            Place::Leased => JobState::Leased,
            Place::Waiting => JobState::Waiting,
            Place::Done => JobState::Done,
            Place::Replaced => JobState::Replaced,
            Place::Dead => JobState::Dead,
            Place::Cancelled => JobState::Cancelled,
            Place::Unknown => {
                return Err(Refusal::unavailable(
                    "the job is in the log, and nobody can tell at this moment how far it is",
                ));
            }
        };
        Ok(JobDetails {
            id: job::id(number)?,
            queue,
            job_type: self.kind.unwrap_or_default(),
            state,
            args: job::args(self.data.as_deref())?,
            options: job::options(self.extra1.as_deref()).unwrap_or_default(),
            attempts: self.attempt.unsigned_abs(),
            max_attempts: self.max_attempts.unsigned_abs(),
            inserted_at: self.time,
            run_at: self.due.filter(|_| state == JobState::Waiting),
            failures: self.failures,
            holder: self.holder,
            lease_ends_at: self.due.filter(|_| state == JobState::Leased),
            origin: self.origin,
            children: self.children,
            result: self.result.as_deref().map(|json| job::args(Some(json))).transpose()?,
            progress: None,
        })
    }
}

async fn stored(
    session: &mut Session,
    queue_id: i32,
    number: i64,
    read_to: Option<i64>,
) -> Result<Option<Stored>, DbError> {
    let op = "look for a job";
    let sql = "select tidemill.job_details($1, $2, $3)";
    let row = session
        .query_one(op, sql, &[(&queue_id, Type::INT4), (&number, Type::INT8), (&read_to, Type::INT8)])
        .await?;
    let stored: Option<Json<Stored>> =
        row.try_get(0).map_err(|error| DbError::decode(op, &session.database(), error))?;
    Ok(stored.map(|json| json.0))
}

/// What the database has of a job that is in the window.
async fn known(
    session: &mut Session,
    queue_id: i32,
    number: i64,
) -> Result<(Vec<FailureRecord>, Option<Origin>), DbError> {
    let op = "look for a job's failures";
    let sql = "select tidemill.job_failures($1, $2), tidemill.job_origin($1, $2)";
    let row = session.query_one(op, sql, &[(&queue_id, Type::INT4), (&number, Type::INT8)]).await?;
    let read = || -> Result<_, tokio_postgres::Error> {
        let (Json(failures), origin): (_, Option<Json<Origin>>) = (row.try_get(0)?, row.try_get(1)?);
        Ok((failures, origin.map(|json| json.0)))
    };
    read().map_err(|error| DbError::decode(op, &session.database(), error))
}
