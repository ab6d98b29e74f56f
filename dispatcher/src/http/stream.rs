//! Produce, streamed: NDJSON of any length in bounded memory, in one transaction.
//!
//! The transaction begins when the first thousand jobs (or the first megabyte) have arrived, and the body must go on
//! bringing that much within a few seconds: a slow client holds no connection idle for long.

use std::ops::Range;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tidemill_common::api::{
    At, Faults, NewJob, ProblemKind, StreamProduceResponse, Validate, Violation, parse,
};
use tidemill_common::db::{DbError, Tx, Type};
use tokio::time::Instant;

use super::auth::Caller;
use super::body::{Json, Parts, check_depth};
use super::once::{First, Kept, Once};
use super::problem::Refusal;
use super::produce::{CHUNK_JOBS, Chunk, job_id, refused};
use super::replace::DISCARD;
use super::state::{ApiState, Limits};

/// Bytes of jobs after which a chunk is inserted, however few jobs that are.
const CHUNK_BYTES: usize = 1 << 20;

/// All jobs, or none.
pub(super) async fn produce(
    state: &ApiState,
    caller: &Caller,
    queue: &str,
    body: Body,
    once: Option<Once>,
) -> Result<Response, Refusal> {
    let mut lines = Lines { once, ..Lines::new(body, state.limits) };
    let mut chunk = lines.chunk().await?;
    let _turn = match &lines.once {
        Some(once) => Some(once.turn(&state.turns, queue).await?),
        None => None,
    };
    let mut session = state.pool.stream_session().await?;
    let mut ends = Ends::default();
    let outcome = async {
        let mut tx = session.begin("produce").await?;
        if let Some(once) = &lines.once
            && let Some(first) = once.first(&mut tx, queue).await?
        {
            return Ok(Told::Before(first));
        }
        loop {
            let is_last = chunk.jobs == 0;
            // An empty one too: it says whether the queue takes jobs.
            if !is_last || ends.count == 0 {
                ends.insert(&mut tx, queue, std::mem::take(&mut chunk)).await?;
            }
            if is_last {
                break;
            }
            chunk = lines.chunk().await?;
        }
        let (count, there) = (ends.count, ends.there);
        let answer = ends.answer()?;
        Ok(Told::Now(match lines.once.take() {
            Some(once) if count + there > 0 => once.keep(tx, queue, &answer).await?.into_response(),
            // Without any job nothing is done twice.
            Some(_) | None => {
                tx.commit().await?;
                let status = if count > 0 { StatusCode::CREATED } else { StatusCode::OK };
                Json(status, answer).into_response()
            }
        }))
    }
    .await;
    match outcome {
        Ok(Told::Now(response)) => Ok(response),
        Ok(Told::Before(first)) => {
            drop(session);
            lines.again(first).await.map(IntoResponse::into_response)
        }
        Err(Stopped::Body(refusal)) => Err(refusal),
        Err(Stopped::Database(error)) => Err(refused(&mut session, caller, queue, &error).await),
    }
}

/// What there is to say about a stream.
enum Told {
    Now(Response),
    /// Its key was used before: whether for the same jobs, the rest of the body tells.
    Before(First),
}

/// Why a stream came to nothing.
pub(super) enum Stopped {
    Body(Refusal),
    Database(DbError),
}

impl From<Refusal> for Stopped {
    fn from(refusal: Refusal) -> Self {
        Self::Body(refusal)
    }
}

impl From<DbError> for Stopped {
    fn from(error: DbError) -> Self {
        Self::Database(error)
    }
}

/// What was inserted so far: the first id, the last one, how many, and how many were there already.
#[derive(Default)]
struct Ends {
    first: Option<String>,
    last: Option<String>,
    count: u64,
    there: u64,
}

const INSERT: &str = "select count(*), (array_agg(id order by n))[1], (array_agg(id order by n desc))[1], int8 '0' \
                      from tidemill.insert_jobs($1, $2::jsonb) with ordinality as i (id, n)";
const INSERT_UNIQUE: &str = "select count(*) filter (where not there), \
                                    (array_agg(id order by n) filter (where not there))[1], \
                                    (array_agg(id order by n desc) filter (where not there))[1], \
                                    count(*) filter (where there) \
                             from tidemill.insert_unique_jobs($1, $2::jsonb) with ordinality as i (id, there, n)";

impl Ends {
    async fn insert(&mut self, tx: &mut Tx<'_>, queue: &str, chunk: Chunk) -> Result<(), DbError> {
        let sql = if chunk.unique { INSERT_UNIQUE } else { INSERT };
        let op = "insert jobs";
        let (jobs, database) = (chunk.finish(), tx.database());
        let row = tx.query_one(op, sql, &[(&queue, Type::TEXT), (&jobs, Type::TEXT)]).await?;
        let read = || -> Result<(i64, Option<String>, Option<String>, i64), tokio_postgres::Error> {
            Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?))
        };
        let (count, first, last, there) = read().map_err(|error| DbError::decode(op, &database, error))?;
        self.count += count.unsigned_abs();
        self.there += there.unsigned_abs();
        self.first = self.first.take().or(first);
        self.last = last.or(self.last.take());
        Ok(())
    }

    fn answer(self) -> Result<StreamProduceResponse, Refusal> {
        let (first_id, last_id) = (self.first.map(job_id).transpose()?, self.last.map(job_id).transpose()?);
        Ok(StreamProduceResponse { inserted: self.count, duplicates: self.there, first_id, last_id })
    }
}

/// The lines of a body, as chunks of jobs.
pub(super) struct Lines {
    parts: Parts,
    limits: Limits,
    /// What has arrived; up to `start` it is read.
    arrived: Vec<u8>,
    start: usize,
    ended: bool,
    number: usize,
    /// The number of the last chunk's first line.
    chunk_at: usize,
    /// Jobs may name a queue.
    of_replace: bool,
    /// It hears of every part that arrives.
    once: Option<Once>,
    deadline: Instant,
}

impl Lines {
    fn new(body: Body, limits: Limits) -> Self {
        let deadline = Instant::now() + limits.stream_wait;
        Self {
            parts: Parts::new(body),
            limits,
            arrived: Vec::new(),
            start: 0,
            ended: false,
            number: 0,
            chunk_at: 0,
            of_replace: false,
            once: None,
            deadline,
        }
    }

    /// The jobs that are to exist instead of another.
    pub(super) fn of_replace(body: Body, limits: Limits) -> Self {
        Self { of_replace: true, ..Self::new(body, limits) }
    }

    /// The numbers of the last chunk's lines.
    pub(super) fn piece(&self) -> Range<usize> {
        self.chunk_at..self.number
    }

    /// Throws the rest away, within bounds: most clients send all before they listen.
    pub(super) async fn discard(&mut self) {
        self.parts.discard(self.deadline.min(Instant::now() + DISCARD)).await;
    }

    /// The first answer, if the rest of the body is what it was then.
    async fn again(mut self, first: First) -> Result<Kept, Refusal> {
        while self.part(self.deadline).await?.is_some() {}
        let once =
            self.once.ok_or_else(|| Refusal::new(ProblemKind::Internal, "a first answer without a key"))?;
        once.again(first)
    }

    async fn part(&mut self, deadline: Instant) -> Result<Option<Bytes>, Refusal> {
        let part = self.parts.next(deadline).await?;
        if let (Some(once), Some(part)) = (&mut self.once, &part) {
            once.arrived(part);
        }
        Ok(part)
    }

    /// The next jobs; none at the end of the body.
    pub(super) async fn chunk(&mut self) -> Result<Chunk, Refusal> {
        self.chunk_at = self.number;
        let deadline = self.deadline.min(Instant::now() + self.limits.body_wait);
        let mut chunk = Chunk::default();
        while chunk.jobs < CHUNK_JOBS && chunk.bytes() < CHUNK_BYTES {
            let Some(line) = self.line(deadline).await? else { break };
            let line = self.arrived.get(line).unwrap_or_default();
            let place = format!("/{}", self.number);
            self.number += 1;
            if line.trim_ascii().is_empty() {
                continue;
            }
            check_depth(line, self.limits.json_depth)?;
            let job = match self.of_replace {
                true => parse::<NewJob>(line),
                false => parse::<Line>(line).map(|Line(job)| job),
            };
            let job = job.map_err(|faults| Refusal::invalid(below(&place, faults)))?;
            chunk.push(job)?;
        }
        Ok(chunk)
    }

    /// Where in `arrived` the next line is.
    async fn line(&mut self, deadline: Instant) -> Result<Option<Range<usize>>, Refusal> {
        let mut searched = self.start;
        loop {
            let new = self.arrived.get(searched..).unwrap_or_default();
            let found = new.iter().position(|byte| *byte == b'\n').map(|at| searched + at);
            let end = found.unwrap_or(self.arrived.len());
            if end - self.start > self.limits.body_bytes {
                let limit = self.limits.body_bytes;
                return Err(Refusal::new(
                    ProblemKind::TooLarge,
                    format!("a line must have at most {limit} bytes"),
                ));
            }
            if found.is_some() || self.ended {
                let line = self.start..end;
                self.start = if found.is_some() { end + 1 } else { end };
                return Ok(Some(line).filter(|line| found.is_some() || !line.is_empty()));
            }
            self.arrived.drain(..self.start);
            self.start = 0;
            searched = self.arrived.len();
            match self.part(deadline).await? {
                Some(part) => self.arrived.extend_from_slice(&part),
                None => self.ended = true,
            }
        }
    }
}

/// Faults of a line, with the line's place in the stream (counted from 0, like an array's elements).
fn below(place: &str, faults: Vec<Violation>) -> Vec<Violation> {
    faults
        .into_iter()
        .map(|f| Violation { pointer: format!("{place}{}", f.pointer), detail: f.detail })
        .collect()
}

#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Line(NewJob);

impl Validate for Line {
    fn validate(&self, at: At<'_>, faults: &mut Faults) {
        faults.require(self.0.queue.is_none(), at.field("queue"), "the queue is the one in the path");
        self.0.validate(at, faults);
    }
}
