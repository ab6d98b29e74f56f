//! Replace, streamed: `POST /v1/leases/{lease}/replace`. One job by any number of others, in one transaction and bounded
//! memory. First the lease goes to the waiting room; then the jobs are inserted while they arrive, on a connection of
//! their own, and nobody else waits; last, in one message, the fence, the row of the lease (it decides), and COMMIT.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use tidemill_common::api::{Answer, ProblemKind, ReplaceResponse};
use tidemill_common::db::{Class, DbError, Tx, Type};
use tidemill_common::failpoint;
use tidemill_common::lease::Lease;
use tokio_postgres::error::SqlState;

use super::auth::{Caller, Scope};
use super::body::{self, Media};
use super::forward::{Call, Passport};
use super::group::{Groups, Place};
use super::params::InPath;
use super::problem::Refusal;
use super::produce::Chunk;
use super::state::ApiState;
use super::stream::{Lines, Stopped};
use crate::command::QueueHandle;
use crate::engine::{Answered, Decided};

/// The jobs of the body instead of the lease's, or nothing.
pub(super) async fn replace(
    State(state): State<ApiState>,
    caller: Caller,
    passport: Passport,
    InPath(token): InPath<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    caller.check_somewhere(Scope::Work)?;
    if Media::of(&headers)? != Media::Lines {
        let detail = "`content-type` must be application/x-ndjson here";
        return Err(Refusal::new(ProblemKind::UnsupportedMediaType, detail));
    }
    let lease: Option<Lease> = token.parse().ok();
    let groups = Groups::of(&state, &caller, &passport, &[lease]).await;
    let place = groups.places.first().map(|(place, _)| place);
    let lines = |body| Lines::of_replace(body, state.limits);
    match (place, lease) {
        (Some(Place::Here(queue_id)), Some(lease)) => match groups.handle(*queue_id) {
            Some(handle) => here(&state, &caller, handle, lease, lines(body)).await,
            None => Err(unavailable()),
        },
        (Some(Place::There(address)), _) => {
            let path = format!("/v1/leases/{token}/replace");
            let wait = state.limits.stream_wait;
            let method = Method::POST;
            Call { state: &state, passport: &passport, address, method, path: &path, wait }
                .relay_lines(body)
                .await
        }
        (Some(Place::Stale), _) | (_, None) => {
            lines(body).discard().await;
            Err(stale())
        }
        (Some(Place::Nobody) | None, _) => Err(unavailable()),
    }
}

async fn here(
    state: &ApiState,
    caller: &Caller,
    handle: &QueueHandle,
    lease: Lease,
    mut lines: Lines,
) -> Result<Response, Refusal> {
    let Ok(Answered::Lent { decided, epoch }) = handle.lend(lease).await else { return Err(unavailable()) };
    let Decided { answer, children } = decided;
    match answer {
        Answer::Ok => {}
        Answer::Already => {
            lines.discard().await;
            return Ok(done(Answer::Already, children.unwrap_or_default().count));
        }
        Answer::Stale | Answer::Cancelled => {
            lines.discard().await;
            return Err(stale());
        }
        Answer::Unavailable | Answer::Refused => return Err(unavailable()),
    }
    let first = lines.chunk().await?;
    let mut session = state.pool.stream_session().await?;
    let outcome = async {
        let mut tx = session.begin("replace").await?;
        let count = insert(&mut tx, caller, lease, first, &mut lines).await?;
        failpoint!("dispatcher.before_stream_commit");
        let queue_id = lease.queue_id;
        let last = format!("select tidemill.finish_stream({queue_id}, {epoch}, '{lease}', {count})");
        let committed = tx.commit_after(&last).await;
        failpoint!("dispatcher.after_stream_commit");
        committed.map(|()| count).map_err(Stopped::Database)
    }
    .await;
    match outcome {
        Ok(count) => {
            handle.streamed(lease, count).await;
            Ok(done(Answer::Ok, count))
        }
        Err(Stopped::Body(refusal)) => {
            lines.discard().await;
            Err(refusal)
        }
        Err(Stopped::Database(error)) => {
            if error.outcome_unknown() {
                // Whether it was committed is in the journal, if anywhere: the owner reads it again.
                handle.doubt().await;
            }
            Err(refused(&error))
        }
    }
}

/// Inserts the jobs as they arrive; how many.
async fn insert(
    tx: &mut Tx<'_>,
    caller: &Caller,
    lease: Lease,
    first: Chunk,
    lines: &mut Lines,
) -> Result<u64, Stopped> {
    let op = "insert the jobs of a replace";
    let sql = "select tidemill.stream_jobs($1, $2::jsonb, $3)";
    let (mut chunk, mut count) = (first, 0);
    while chunk.jobs > 0 {
        for queue in &chunk.queues {
            caller.check(Scope::Produce, queue)?;
        }
        let jobs = std::mem::take(&mut chunk).finish();
        let params =
            [(&lease.queue_id as _, Type::INT4), (&jobs as _, Type::TEXT), (&lease.job as _, Type::INT8)];
        let inserted = match tx.query_one(op, sql, &params).await {
            Ok(row) => row.try_get::<_, i32>(0).map_err(|e| DbError::decode(op, &tx.database(), e))?,
            Err(error) if error.class() == Class::Reject => {
                return Err(Stopped::Body(bad_lines(lines, &error)));
            }
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                return Err(Stopped::Body(key_taken()));
            }
            Err(error) => return Err(Stopped::Database(error)),
        };
        count += u64::from(inserted.unsigned_abs());
        chunk = lines.chunk().await?;
    }
    Ok(count)
}

fn key_taken() -> Refusal {
    Refusal::unavailable(
        "another transaction, which is still open, has the unique key of one of the jobs; nothing was inserted",
    )
}

/// The database refuses a job; which one of a piece, it does not say.
fn bad_lines(lines: &Lines, error: &DbError) -> Refusal {
    let piece = lines.piece();
    let why = error.server_message().unwrap_or("the data cannot be stored");
    let last = piece.end.saturating_sub(1);
    Refusal::fault(format!("/{}", piece.start), format!("in lines {} to {last}: {why}", piece.start))
}

fn refused(error: &DbError) -> Refusal {
    match error.code().map(SqlState::code) {
        Some("TM002") => stale(),
        Some("TM001" | "55P03") => unavailable(),
        _ => Refusal::database(error),
    }
}

fn done(answer: Answer, inserted: u64) -> Response {
    body::ok(ReplaceResponse { answer, inserted }).into_response()
}

fn stale() -> Refusal {
    Refusal::new(
        ProblemKind::StaleLease,
        "the lease has ended, was finished or taken over; nothing was inserted",
    )
}

fn unavailable() -> Refusal {
    Refusal::unavailable("nobody can tell at this moment whether the lease is live; nothing was inserted")
}

/// How long a refused body may go on arriving.
pub(super) const DISCARD: Duration = Duration::from_secs(10);
