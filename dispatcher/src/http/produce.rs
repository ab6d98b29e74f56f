//! Produce: `POST /v1/queues/{queue}/jobs`. Any dispatcher inserts; the answer leaves when the jobs are committed.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tidemill_common::api::{InsertedJob, NewJob, ProblemKind, ProduceRequest, ProduceResponse, RawValue};
use tidemill_common::db::{DbError, Session, Tx, Type};
use tidemill_common::id::{JobId, QueueName};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

use super::auth::{Caller, Scope};
use super::body::{self, Json, Media};
use super::once::Once;
use super::params::InPath;
use super::pool::Loan;
use super::problem::Refusal;
use super::state::ApiState;
use super::stream::{self, Stopped};

/// Most jobs of one call of `tidemill.insert_jobs`.
pub(super) const CHUNK_JOBS: usize = 1_000;
const OP: &str = "insert jobs";
/// The jobs go as text: the driver need not take their JSON apart.
const INSERT: &str = "select id, false from tidemill.insert_jobs($1, $2::jsonb) id";
const INSERT_UNIQUE: &str = "select id, duplicate from tidemill.insert_unique_jobs($1, $2::jsonb)";

/// One job, several, or a stream of them.
pub(super) async fn produce(
    State(state): State<ApiState>,
    caller: Caller,
    InPath(queue): InPath<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    caller.check(Scope::Produce, &queue)?;
    let media = Media::of(&headers)?;
    let once = Once::of(&headers, media)?;
    match media {
        Media::Lines => stream::produce(&state, &caller, &queue, body, once).await,
        Media::Json => {
            let bytes = body::whole(&headers, body, &state.limits).await?;
            let request = ProduceRequest::parse(&bytes).map_err(Refusal::invalid)?;
            let chunks = chunks(request.jobs)?;
            let _turn = match &once {
                Some(once) => Some(once.turn(&state.turns, &queue).await?),
                None => None,
            };
            let mut session = state.pool.session().await?;
            let told = match once {
                None => insert_all(&mut session, &queue, &chunks).await,
                Some(mut once) => {
                    once.arrived(&bytes);
                    insert_once(&mut session, &queue, &chunks, once).await
                }
            };
            match told {
                Ok(response) => Ok(response),
                Err(Stopped::Body(refusal)) => Err(refusal),
                Err(Stopped::Database(error)) => Err(refused(&mut session, &caller, &queue, &error).await),
            }
        }
    }
}

/// One call of `tidemill.insert_jobs`, or of `insert_unique_jobs` if a job has a unique key.
struct Insert {
    sql: &'static str,
    jobs: String,
}

impl From<Chunk> for Insert {
    fn from(chunk: Chunk) -> Self {
        Self { sql: if chunk.unique { INSERT_UNIQUE } else { INSERT }, jobs: chunk.finish() }
    }
}

/// The jobs, as calls take them.
fn chunks(jobs: Vec<NewJob>) -> Result<Vec<Insert>, Refusal> {
    let mut chunks = Vec::new();
    let mut chunk = Chunk::default();
    for job in jobs {
        chunk.push(job)?;
        if chunk.jobs == CHUNK_JOBS {
            chunks.push(std::mem::take(&mut chunk).into());
        }
    }
    if chunk.jobs > 0 {
        chunks.push(chunk.into());
    }
    Ok(chunks)
}

/// One statement where one is enough: it commits itself.
async fn insert_all(session: &mut Session, queue: &str, chunks: &[Insert]) -> Result<Response, Stopped> {
    let database = session.database();
    let rows = if let [Insert { sql, jobs }] = chunks {
        session.query(OP, sql, &[(&queue, Type::TEXT), (jobs, Type::TEXT)]).await?
    } else {
        let mut tx = session.begin("produce").await?;
        let rows = insert_chunks(&mut tx, queue, chunks).await?;
        tx.commit().await?;
        rows
    };
    let answer = inserted(&database, &rows)?;
    let status = if answer.is_all_there() { StatusCode::OK } else { StatusCode::CREATED };
    Ok(Json(status, answer).into_response())
}

/// The same, unless the request was carried out before.
async fn insert_once(
    session: &mut Session,
    queue: &str,
    chunks: &[Insert],
    once: Once,
) -> Result<Response, Stopped> {
    let database = session.database();
    let mut tx = session.begin("produce").await?;
    let kept = match once.first(&mut tx, queue).await? {
        Some(first) => once.again(first)?,
        None => {
            let rows = insert_chunks(&mut tx, queue, chunks).await?;
            once.keep(tx, queue, &inserted(&database, &rows)?).await?
        }
    };
    Ok(kept.into_response())
}

async fn insert_chunks(tx: &mut Tx<'_>, queue: &str, chunks: &[Insert]) -> Result<Vec<Row>, DbError> {
    let mut rows = Vec::new();
    for Insert { sql, jobs } in chunks {
        rows.extend(tx.query(OP, sql, &[(&queue, Type::TEXT), (jobs, Type::TEXT)]).await?);
    }
    Ok(rows)
}

/// The answer: the ids in the order of the jobs.
fn inserted(database: &Arc<str>, rows: &[Row]) -> Result<ProduceResponse, Stopped> {
    let job = |row: &Row| -> Result<InsertedJob, Stopped> {
        let read = || Ok((row.try_get(0)?, row.try_get(1)?));
        let (id, duplicate) = read().map_err(|error| DbError::decode(OP, database, error))?;
        Ok(InsertedJob { id: job_id(id)?, duplicate })
    };
    Ok(ProduceResponse { jobs: rows.iter().map(job).collect::<Result<_, _>>()? })
}

/// What became of an insert that failed. A queue that takes no jobs is looked up only now.
pub(super) async fn refused(session: &mut Loan, caller: &Caller, queue: &str, error: &DbError) -> Refusal {
    match error.code() {
        Some(code) if code.code() == "TM004" => {}
        Some(&SqlState::LOCK_NOT_AVAILABLE) => return busy(),
        Some(_) | None => return Refusal::database(error),
    }
    match no_job_queue(session, queue).await {
        Ok(refusal) => caller.unknown_queue(Scope::Produce, queue, refusal),
        Err(error) => Refusal::database(&error),
    }
}

/// Nothing else of an insert waits for locks with a limit.
fn busy() -> Refusal {
    let detail = "another transaction, which is still open, inserts or completes a job with the same unique key: repeat the \
                  request; nothing was inserted";
    Refusal::new(ProblemKind::Conflict, detail).retry_after(1)
}

/// Why a queue is no job queue: it does not exist, or it is only PgQ's.
pub(super) async fn no_job_queue(session: &mut Session, queue: &str) -> Result<Refusal, DbError> {
    let sql = "select 1 from pgq.queue where queue_name = $1";
    let exists = session.query_opt("look for a queue", sql, &[(&queue, Type::TEXT)]).await?.is_some();
    Ok(if exists {
        Refusal::new(
            ProblemKind::Conflict,
            format!(
                "queue `{queue}` is not a job queue: make it one with `tidemill queue create {queue} --jobs`"
            ),
        )
    } else {
        Refusal::new(ProblemKind::UnknownQueue, format!("there is no job queue `{queue}`"))
    })
}

/// An id that the database made.
pub(super) fn job_id(text: String) -> Result<JobId, Refusal> {
    JobId::try_from(text).map_err(|_| Refusal::new(ProblemKind::Internal, "a job has an id that is none"))
}

/// Jobs on their way into `tidemill.insert_jobs`: a JSON array in the making.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    text: String,
    pub(super) jobs: usize,
    /// The queues that jobs of a replace name.
    pub(super) queues: BTreeSet<String>,
    /// Has one of them a unique key?
    pub(super) unique: bool,
}

impl Chunk {
    pub(super) fn push(&mut self, job: NewJob) -> Result<(), Refusal> {
        #[derive(Serialize)]
        struct Row<'a> {
            #[serde(skip_serializing_if = "Option::is_none")]
            queue: Option<&'a str>,
            r#type: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            args: Option<&'a RawValue>,
            #[serde(skip_serializing_if = "Option::is_none")]
            options: Option<&'a tidemill_common::api::JobOptions>,
        }
        let queue = job.queue.clone();
        self.unique |= job.unique.is_some();
        let (kind, args, options) = job.into_parts();
        let row = Row {
            queue: queue.as_ref().map(QueueName::as_str),
            r#type: &kind,
            args: args.as_deref(),
            options: Some(&options).filter(|options| !options.is_empty()),
        };
        let row = serde_json::to_string(&row)
            .map_err(|error| Refusal::fault("", format!("a job cannot be written as JSON: {error}")))?;
        self.text.push(if self.jobs == 0 { '[' } else { ',' });
        self.text.push_str(&row);
        self.jobs += 1;
        self.queues.extend(queue.map(|queue| queue.as_str().to_owned()));
        Ok(())
    }

    pub(super) fn bytes(&self) -> usize {
        self.text.len()
    }

    pub(super) fn finish(mut self) -> String {
        self.text.push_str(if self.jobs == 0 { "[]" } else { "]" });
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(json: &str) -> NewJob {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn arguments_pass_as_they_are() {
        let mut chunk = Chunk::default();
        chunk.push(job(r#"{"type":"t","args":{"n": 1.50}}"#)).unwrap();
        chunk.push(job(r#"{"type":"u","max_attempts":3}"#)).unwrap();
        let expected = r#"[{"type":"t","args":{"n": 1.50}},{"type":"u","options":{"max_attempts":3}}]"#;
        assert_eq!(chunk.finish(), expected);
        assert_eq!(Chunk::default().finish(), "[]");
    }
}
