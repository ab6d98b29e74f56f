//! Dead letters: listed in pages, put back into the log, or purged.

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use jiff::Timestamp;
use serde::Deserialize;
use tidemill_common::api::{
    DeadJob, DeadPage, DeadSelection, JobState, JobSummary, PurgeAnswer, RedriveAnswer,
};
use tidemill_common::db::{DbError, Param, Row, Session, Type};
use tidemill_common::queue::work::clock;

use super::auth::{Caller, Scope};
use super::body::{self, Json};
use super::job;
use super::params::{InPath, InQuery};
use super::problem::Refusal;
use super::state::ApiState;
use super::work::unseen;

/// Dead letters of one page, unless the caller asks for fewer or more.
const PAGE: i32 = 100;
/// The largest page.
const PAGE_MAX: i32 = 1_000;
/// Dead letters of one transaction.
const STEP: i32 = 1_000;

/// The query of the list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    cursor: Option<String>,
    limit: Option<i32>,
}

/// A page, the oldest first.
pub(super) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    InPath(queue): InPath<String>,
    InQuery(page): InQuery<Page>,
) -> Result<Json<DeadPage>, Refusal> {
    caller.check(Scope::Read, &queue)?;
    let limit = checked_limit(page.limit)?;
    let after = match page.cursor.as_deref().map(read_cursor) {
        None => None,
        Some(Some(after)) => Some(after),
        Some(None) => return Err(Refusal::fault("", "`cursor` must be the one of the page before")),
    };
    let queue_id = queue_id(&state, &caller, Scope::Read, &queue).await?;
    let mut session = state.pool.session().await?;
    let rows =
        fetch(&mut session, queue_id, after, limit).await.map_err(|error| Refusal::database(&error))?;
    drop(session);
    let is_last = rows.len() < limit.unsigned_abs() as usize;
    let cursor = rows.last().filter(|_| !is_last).map(Dead::cursor);
    let jobs = rows.into_iter().map(Dead::show).collect::<Result<_, _>>()?;
    Ok(body::ok(DeadPage { jobs, cursor }))
}

/// How many to show on a page.
pub(super) fn checked_limit(wanted: Option<i32>) -> Result<i32, Refusal> {
    let limit = wanted.unwrap_or(PAGE);
    if (1..=PAGE_MAX).contains(&limit) {
        return Ok(limit);
    }
    Err(Refusal::fault("", format!("`limit` must be between 1 and {PAGE_MAX}, and is {limit}")))
}

pub(super) fn read_cursor(text: &str) -> Option<(Timestamp, i64)> {
    let (at, job) = text.split_once('-')?;
    Some((Timestamp::from_microsecond(at.parse().ok()?).ok()?, job.parse().ok()?))
}

pub(super) async fn queue_id(
    state: &ApiState,
    caller: &Caller,
    scope: Scope,
    queue: &str,
) -> Result<i32, Refusal> {
    match state.routes.find(queue) {
        Some(route) => Ok(route.seen.borrow().queue.queue_id),
        None => Err(unseen(state, caller, scope, queue).await),
    }
}

/// A row of `tidemill.dead`.
pub(super) struct Dead {
    job: i64,
    kind: Option<String>,
    data: Option<String>,
    extra1: Option<String>,
    attempt: i32,
    inserted_at: Timestamp,
    died_at: Timestamp,
    message: String,
}

impl Dead {
    /// Where the next page begins.
    pub(super) fn cursor(&self) -> String {
        format!("{}-{}", self.died_at.as_microsecond(), self.job)
    }

    /// Without its arguments.
    pub(super) fn summary(&self) -> Result<JobSummary, Refusal> {
        Ok(JobSummary {
            id: job::id(self.job)?,
            job_type: self.kind.clone().unwrap_or_default(),
            state: JobState::Dead,
            attempts: self.attempt.unsigned_abs(),
            inserted_at: self.inserted_at,
        })
    }

    fn show(self) -> Result<DeadJob, Refusal> {
        Ok(DeadJob {
            id: job::id(self.job)?,
            job_type: self.kind.unwrap_or_default(),
            args: job::args(self.data.as_deref())?,
            options: job::options(self.extra1.as_deref()).unwrap_or_default(),
            attempts: self.attempt.unsigned_abs(),
            died_at: self.died_at,
            message: self.message,
        })
    }
}

pub(super) async fn fetch(
    session: &mut Session,
    queue_id: i32,
    after: Option<(Timestamp, i64)>,
    limit: i32,
) -> Result<Vec<Dead>, DbError> {
    let op = "list dead letters";
    let sql = "select o_job_id, o_type, o_data, o_extra1, o_attempt, o_at, o_message, o_time \
               from tidemill.list_dead($1, $2, $3, $4)";
    let (at, job) = after.unzip();
    let params: &[Param<'_>] =
        &[(&queue_id, Type::INT4), (&at, Type::TIMESTAMPTZ), (&job, Type::INT8), (&limit, Type::INT4)];
    let rows = session.query(op, sql, params).await?;
    let database = session.database();
    let read = |row: &Row| -> Result<Dead, tokio_postgres::Error> {
        Ok(Dead {
            job: row.try_get(0)?,
            kind: row.try_get(1)?,
            data: row.try_get(2)?,
            extra1: row.try_get(3)?,
            attempt: row.try_get(4)?,
            died_at: row.try_get(5)?,
            message: row.try_get(6)?,
            inserted_at: row.try_get(7)?,
        })
    };
    rows.iter().map(|row| read(row).map_err(|error| DbError::decode(op, &database, error))).collect()
}

/// Dead letters become jobs again, with all their attempts.
pub(super) async fn redrive(
    State(state): State<ApiState>,
    caller: Caller,
    InPath(queue): InPath<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<RedriveAnswer>, Refusal> {
    let sql = "select tidemill.redrive_dead($1, $2, $3, $4, $5)";
    let redriven = all(&state, &caller, &queue, (headers, body), ("redrive dead letters", sql)).await?;
    Ok(body::ok(RedriveAnswer { redriven }))
}

/// Dead letters are forgotten, with their failures.
pub(super) async fn purge(
    State(state): State<ApiState>,
    caller: Caller,
    InPath(queue): InPath<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PurgeAnswer>, Refusal> {
    let sql = "select tidemill.purge_dead($1, $2, $3, $4, $5)";
    let purged = all(&state, &caller, &queue, (headers, body), ("purge dead letters", sql)).await?;
    Ok(body::ok(PurgeAnswer { purged }))
}

/// Calls the function until it has taken all that is selected and was dead when the request came: a job that dies
/// again at once is not taken twice.
async fn all(
    state: &ApiState,
    caller: &Caller,
    queue: &str,
    (headers, body): (HeaderMap, Body),
    (op, sql): (&'static str, &str),
) -> Result<u64, Refusal> {
    caller.check(Scope::Admin, queue)?;
    let selection: DeadSelection = body::parsed(&headers, body, &state.limits).await?;
    let queue_id = queue_id(state, caller, Scope::Admin, queue).await?;
    // An id that is no number is no dead letter's.
    let ids: Option<Vec<i64>> =
        selection.ids.map(|ids| ids.iter().filter_map(|id| id.as_str().parse().ok()).collect());
    let failed = |error: DbError| Refusal::database(&error);
    let mut session = state.pool.session().await?;
    let until = clock(&mut session).await.map_err(failed)?;
    let mut taken = 0;
    loop {
        let params: &[Param<'_>] = &[
            (&queue_id, Type::INT4),
            (&ids, Type::INT8_ARRAY),
            (&selection.job_type, Type::TEXT),
            (&until, Type::TIMESTAMPTZ),
            (&STEP, Type::INT4),
        ];
        let row = session.query_one(op, sql, params).await.map_err(failed)?;
        let step: i32 =
            row.try_get(0).map_err(|error| failed(DbError::decode(op, &session.database(), error)))?;
        taken += u64::from(step.unsigned_abs());
        if step < STEP {
            return Ok(taken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_nothing_else() {
        let at = Timestamp::from_microsecond(1_700_000_000_000_001).unwrap();
        assert_eq!(read_cursor("1700000000000001-42"), Some((at, 42)));
        for text in ["", "-", "1", "1-", "x-1", "1-x", "99999999999999999999-1"] {
            assert_eq!(read_cursor(text), None, "{text}");
        }
    }
}
