//! Lists of jobs: `GET /v1/queues/{queue}/jobs?state=…`. Those in the waiting room and the dead, by an index, a bounded
//! page at a time. A page that is filtered may be short, or empty: the cursor says whether there is more.

use axum::extract::State;
use jiff::Timestamp;
use serde::Deserialize;
use tidemill_common::api::{JobPage, JobState, JobSummary};
use tidemill_common::db::{DbError, Param, Row, Session, Type};

use super::auth::{Caller, Scope};
use super::body::{self, Json};
use super::params::{InPath, InQuery};
use super::problem::Refusal;
use super::state::ApiState;
use super::{dead, job};

/// The query of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    state: Option<JobState>,
    r#type: Option<String>,
    cursor: Option<String>,
    limit: Option<i32>,
}

/// A page of waiting jobs, or of the dead.
pub(super) async fn jobs(
    State(state): State<ApiState>,
    caller: Caller,
    InPath(queue): InPath<String>,
    InQuery(wanted): InQuery<Wanted>,
) -> Result<Json<JobPage>, Refusal> {
    caller.check(Scope::Read, &queue)?;
    let limit = dead::checked_limit(wanted.limit)?;
    let cursor = wanted.cursor.as_deref();
    let is_dead = match wanted.state.unwrap_or(JobState::Waiting) {
        JobState::Waiting => false,
        JobState::Dead => true,
        _ => return Err(Refusal::not_yet("", "a list of jobs that are neither `waiting` nor `dead`")),
    };
    let wrong = || Refusal::fault("", "`cursor` must be the one of the page before");
    let queue_id = dead::queue_id(&state, &caller, Scope::Read, &queue).await?;
    let mut session = state.pool.session().await?;
    let (jobs, last, rows) = if is_dead {
        let after = cursor.map(|text| dead::read_cursor(text).ok_or_else(wrong)).transpose()?;
        let page = dead::fetch(&mut session, queue_id, after, limit).await;
        let page = page.map_err(|error| Refusal::database(&error))?;
        let last = page.last().map(dead::Dead::cursor);
        let jobs = page.iter().map(dead::Dead::summary).collect::<Result<Vec<_>, _>>()?;
        let rows = jobs.len();
        (jobs, last, rows)
    } else {
        let after = cursor.map(|text| text.parse().map_err(|_| wrong())).transpose()?;
        let page = waiting(&mut session, queue_id, after, limit).await;
        let page = page.map_err(|error| Refusal::database(&error))?;
        let last = page.last().map(|row| row.job.to_string());
        let rows = page.len();
        let jobs = page.into_iter().filter(|row| !row.is_leased).map(Waiting::show);
        (jobs.collect::<Result<Vec<_>, _>>()?, last, rows)
    };
    let is_last = rows < limit.unsigned_abs() as usize;
    let jobs = jobs.into_iter().filter(|job| wanted.r#type.as_ref().is_none_or(|name| *name == job.job_type));
    Ok(body::ok(JobPage { jobs: jobs.collect(), cursor: last.filter(|_| !is_last) }))
}

/// A row of `tidemill.list_waiting`.
struct Waiting {
    job: i64,
    attempt: i32,
    is_leased: bool,
    time: Timestamp,
    kind: Option<String>,
}

impl Waiting {
    fn show(self) -> Result<JobSummary, Refusal> {
        Ok(JobSummary {
            id: job::id(self.job)?,
            job_type: self.kind.unwrap_or_default(),
            state: JobState::Waiting,
            attempts: self.attempt.unsigned_abs(),
            inserted_at: self.time,
        })
    }
}

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
