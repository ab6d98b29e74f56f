//! Lists of jobs: `GET /v1/queues/{queue}/jobs?state=…`, a bounded page at a time.
//!
//! Those that wait and the dead are read in the database, by an index; of these a page that is filtered may be short, or
//! empty: the cursor says whether there is more. Ready and leased jobs are asked of the queue's owner, who knows those in
//! its window: what is in the log and not read yet is on no list. Leases that live in the waiting room are added.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use tidemill_common::api::{JobPage, JobState, JobSummary};
use tidemill_common::db::{DbError, Param, Row, Session, Type};

use super::auth::{Caller, Scope};
use super::body;
use super::forward::{Call, Passport};
use super::params::{InPath, InQuery};
use super::problem::Refusal;
use super::state::ApiState;
use super::work::unseen;
use super::{dead, job};
use crate::engine::{Listed, Listing};
use crate::routes::{Owner, Route};

/// The query of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    state: Option<JobState>,
    r#type: Option<String>,
    cursor: Option<String>,
    limit: Option<i32>,
}

/// A page of jobs in one state.
pub(super) async fn jobs(
    State(state): State<ApiState>,
    caller: Caller,
    passport: Passport,
    uri: Uri,
    InPath(queue): InPath<String>,
    InQuery(wanted): InQuery<Wanted>,
) -> Result<Response, Refusal> {
    caller.check(Scope::Read, &queue)?;
    let limit = dead::checked_limit(wanted.limit)?;
    let Some(route) = state.routes.find(&queue) else {
        return Err(unseen(&state, &caller, Scope::Read, &queue).await);
    };
    let page = match wanted.state.unwrap_or(JobState::Waiting) {
        JobState::Waiting => waiting_page(&state, &route, &wanted, limit).await?,
        JobState::Dead => dead_page(&state, &route, &wanted, limit).await?,
        JobState::Ready | JobState::Leased => match route.owner(state.me) {
            Owner::There(address) if !passport.forwarded => {
                let path = uri.path_and_query().map_or("", |path| path.as_str());
                let (state, passport, wait) = (&state, &passport, Duration::ZERO);
                return Call { state, passport, address: &address, method: Method::GET, path, wait }
                    .relay(Bytes::new())
                    .await;
            }
            Owner::Here => owned_page(&state, &route, &wanted, limit).await?,
            Owner::There(_) | Owner::Nobody => return Err(Refusal::no_owner(&queue)),
        },
        JobState::Done | JobState::Cancelled | JobState::Replaced => {
            let why = "`state` must be `ready`, `leased`, `waiting` or `dead`: there is no list of jobs that are done with";
            return Err(Refusal::fault("", why));
        }
    };
    Ok(body::ok(page).into_response())
}

fn wrong_cursor() -> Refusal {
    Refusal::fault("", "`cursor` must be the one of the page before")
}

impl Wanted {
    /// The last id of the page before.
    fn after(&self) -> Result<Option<i64>, Refusal> {
        self.cursor.as_deref().map(|text| text.parse().map_err(|_| wrong_cursor())).transpose()
    }

    fn wants(&self, job: &JobSummary) -> bool {
        self.r#type.as_ref().is_none_or(|name| *name == job.job_type)
    }
}

fn queue_id(route: &Route) -> i32 {
    route.seen.borrow().queue.queue_id
}

/// Jobs of the waiting room that nobody has, by id.
async fn waiting_page(
    state: &ApiState,
    route: &Route,
    wanted: &Wanted,
    limit: i32,
) -> Result<JobPage, Refusal> {
    let after = wanted.after()?;
    let mut session = state.pool.session().await?;
    let rows = waiting(&mut session, queue_id(route), after, limit).await;
    let rows = rows.map_err(|error| Refusal::database(&error))?;
    let is_last = rows.len() < limit.unsigned_abs() as usize;
    let cursor = rows.last().filter(|_| !is_last).map(|row| row.job.to_string());
    let jobs = rows.into_iter().filter(|row| !row.is_leased).map(|row| row.show(JobState::Waiting));
    let mut jobs = jobs.collect::<Result<Vec<_>, _>>()?;
    jobs.retain(|job| wanted.wants(job));
    Ok(JobPage { jobs, cursor })
}

/// Dead letters, by time.
async fn dead_page(state: &ApiState, route: &Route, wanted: &Wanted, limit: i32) -> Result<JobPage, Refusal> {
    let after = wanted.cursor.as_deref().map(|text| dead::read_cursor(text).ok_or_else(wrong_cursor));
    let after = after.transpose()?;
    let mut session = state.pool.session().await?;
    let rows = dead::fetch(&mut session, queue_id(route), after, limit).await;
    let rows = rows.map_err(|error| Refusal::database(&error))?;
    let is_last = rows.len() < limit.unsigned_abs() as usize;
    let cursor = rows.last().filter(|_| !is_last).map(dead::Dead::cursor);
    let mut jobs = rows.iter().map(dead::Dead::summary).collect::<Result<Vec<_>, _>>()?;
    jobs.retain(|job| wanted.wants(job));
    Ok(JobPage { jobs, cursor })
}

/// Ready or leased jobs of a queue that this process owns, by id.
async fn owned_page(
    state: &ApiState,
    route: &Route,
    wanted: &Wanted,
    limit: i32,
) -> Result<JobPage, Refusal> {
    let job_state = wanted.state.unwrap_or(JobState::Ready);
    let is_leased = job_state == JobState::Leased;
    let after = wanted.after()?;
    let size = limit.unsigned_abs() as usize;
    let listing = Listing::new(is_leased, wanted.r#type.clone(), after.unwrap_or(0), size);
    let in_window = route.handle.list(listing).await;
    let in_window = in_window.map_err(|_| Refusal::no_owner(&route.seen.borrow().queue.name))?;
    // The waiting room after the window: so a lease that moves there meanwhile is found in one of them, or in both.
    let mut outside = Vec::new();
    if is_leased {
        let mut session = state.pool.session().await?;
        let kind = wanted.r#type.as_deref();
        outside = leased(&mut session, queue_id(route), after, kind, limit)
            .await
            .map_err(|error| Refusal::database(&error))?;
    }
    let mut jobs: BTreeMap<i64, JobSummary> = BTreeMap::new();
    for row in outside {
        jobs.insert(row.job, row.show(job_state)?);
    }
    for job in in_window {
        jobs.insert(job.job, listed(job, job_state)?);
    }
    let jobs: Vec<(i64, JobSummary)> = jobs.into_iter().take(size).collect();
    let cursor = jobs.get(size - 1).map(|(last, _)| last.to_string());
    Ok(JobPage { jobs: jobs.into_iter().map(|(_, job)| job).collect(), cursor })
}

fn listed(job: Listed, state: JobState) -> Result<JobSummary, Refusal> {
    Ok(JobSummary {
        id: job::id(job.job)?,
        job_type: job.event.kind.clone().unwrap_or_default(),
        state,
        attempts: job.attempt.unsigned_abs(),
        inserted_at: job.inserted_at.timestamp(),
    })
}

/// A row of the waiting room.
struct Waiting {
    job: i64,
    attempt: i32,
    is_leased: bool,
    time: Timestamp,
    kind: Option<String>,
}

impl Waiting {
    fn show(self, state: JobState) -> Result<JobSummary, Refusal> {
        Ok(JobSummary {
            id: job::id(self.job)?,
            job_type: self.kind.unwrap_or_default(),
            state,
            attempts: self.attempt.unsigned_abs(),
            inserted_at: self.time,
        })
    }
}

/// By `tidemill.list_waiting`: leased or not.
async fn waiting(
    session: &mut Session,
    queue_id: i32,
    after: Option<i64>,
    limit: i32,
) -> Result<Vec<Waiting>, DbError> {
    let op = "list waiting jobs";
    let sql =
        "select o_job_id, o_attempt, o_is_leased, o_time, o_type from tidemill.list_waiting($1, $2, $3)";
    let params: &[Param<'_>] = &[(&queue_id, Type::INT4), (&after, Type::INT8), (&limit, Type::INT4)];
    rows(session, op, sql, params).await
}

/// By `tidemill.list_leased`.
async fn leased(
    session: &mut Session,
    queue_id: i32,
    after: Option<i64>,
    kind: Option<&str>,
    limit: i32,
) -> Result<Vec<Waiting>, DbError> {
    let op = "list leased jobs";
    let sql = "select o_job_id, o_attempt, true, o_time, o_type from tidemill.list_leased($1, $2, $3, $4)";
    let params: &[Param<'_>] =
        &[(&queue_id, Type::INT4), (&after, Type::INT8), (&kind, Type::TEXT), (&limit, Type::INT4)];
    rows(session, op, sql, params).await
}

async fn rows(
    session: &mut Session,
    op: &'static str,
    sql: &str,
    params: &[Param<'_>],
) -> Result<Vec<Waiting>, DbError> {
    let rows = session.query(op, sql, params).await?;
    let database = session.database();
    let read = |row: &Row| -> Result<Waiting, tokio_postgres::Error> {
        Ok(Waiting {
            job: row.try_get(0)?,
            attempt: row.try_get(1)?,
            is_leased: row.try_get(2)?,
            time: row.try_get(3)?,
            kind: row.try_get(4)?,
        })
    };
    rows.iter().map(|row| read(row).map_err(|error| DbError::decode(op, &database, error))).collect()
}
