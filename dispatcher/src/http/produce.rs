//! Produce: `POST /v1/queues/{queue}/jobs`. Any dispatcher inserts; the answer leaves when the jobs are committed.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tidemill_common::api::{InsertedJob, NewJob, ProblemKind, ProduceRequest, ProduceResponse, RawValue};
use tidemill_common::db::{DbError, Session, Type};
use tidemill_common::id::{JobId, QueueName};

use super::auth::{Caller, Scope};
use super::body::{self, Json, Media};
use super::params::InPath;
use super::pool::Loan;
use super::problem::Refusal;
use super::state::ApiState;
use super::stream;

/// Most jobs of one call of `tidemill.insert_jobs`.
pub(super) const CHUNK_JOBS: usize = 1_000;
/// The jobs go as text: the driver need not take their JSON apart.
const INSERT: &str = "select * from tidemill.insert_jobs($1, $2::jsonb)";

/// One job, several, or a stream of them.
pub(super) async fn produce(
    State(state): State<ApiState>,
    caller: Caller,
    InPath(queue): InPath<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    caller.check(Scope::Produce, &queue)?;
    if headers.contains_key("idempotency-key") {
        return Err(Refusal::not_yet("", "the header `idempotency-key`"));
    }
    match Media::of(&headers)? {
        Media::Lines => stream::produce(&state, &caller, &queue, body).await.map(IntoResponse::into_response),
        Media::Json => {
            let bytes = body::whole(&headers, body, &state.limits).await?;
            let request = ProduceRequest::parse(&bytes).map_err(Refusal::invalid)?;
            let many = is_list(&bytes);
            for (index, job) in request.jobs.iter().enumerate() {
                let place = if many { format!("/jobs/{index}") } else { String::new() };
                check_supported(job, &place)?;
            }
            let ids = insert_all(&state, &caller, &queue, request.jobs).await?;
            let jobs = ids.into_iter().map(|id| InsertedJob { id, duplicate: false }).collect();
            Ok(Json(StatusCode::CREATED, ProduceResponse { jobs }).into_response())
        }
    }
}

/// Was it `{"jobs":[…]}`? Only faults need to know: their pointers differ.
fn is_list(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Form {
        jobs: Option<serde::de::IgnoredAny>,
    }
    serde_json::from_slice::<Form>(body).is_ok_and(|form| form.jobs.is_some())
}

/// Refuses options whose feature does not exist yet.
pub(super) fn check_supported(job: &NewJob, place: &str) -> Result<(), Refusal> {
    let unsupported = [
        ("priority", job.priority.is_some_and(|priority| priority != 0)),
        ("unique", job.unique.is_some()),
        ("timeout_ms", job.timeout_ms.is_some()),
    ];
    match unsupported.into_iter().find(|(_, is_used)| *is_used) {
        Some((field, _)) => Err(Refusal::not_yet(format!("{place}/{field}"), &format!("`{field}`"))),
        None => Ok(()),
    }
}

async fn insert_all(
    state: &ApiState,
    caller: &Caller,
    queue: &str,
    jobs: Vec<NewJob>,
) -> Result<Vec<JobId>, Refusal> {
    let mut chunks = Vec::new();
    let mut chunk = Chunk::default();
    for job in jobs {
        chunk.push(job)?;
        if chunk.jobs == CHUNK_JOBS {
            chunks.push(std::mem::take(&mut chunk).finish());
        }
    }
    if chunk.jobs > 0 {
        chunks.push(chunk.finish());
    }
    let mut session = state.pool.session().await?;
    match insert_chunks(&mut session, queue, &chunks).await {
        Ok(ids) => ids.into_iter().map(job_id).collect(),
        Err(error) => Err(refused(&mut session, caller, queue, &error).await),
    }
}

/// One statement where one is enough: it commits itself.
async fn insert_chunks(
    session: &mut Session,
    queue: &str,
    chunks: &[String],
) -> Result<Vec<String>, DbError> {
    let op = "insert jobs";
    let database = session.database();
    let mut rows = Vec::new();
    if let [chunk] = chunks {
        rows = session.query(op, INSERT, &[(&queue, Type::TEXT), (chunk, Type::TEXT)]).await?;
    } else {
        let mut tx = session.begin("produce").await?;
        for chunk in chunks {
            rows.extend(tx.query(op, INSERT, &[(&queue, Type::TEXT), (chunk, Type::TEXT)]).await?);
        }
        tx.commit().await?;
    }
    rows.iter().map(|row| row.try_get(0).map_err(|e| DbError::decode(op, &database, e))).collect()
}

/// What became of an insert that failed. A queue that takes no jobs is looked up only now.
pub(super) async fn refused(session: &mut Loan, caller: &Caller, queue: &str, error: &DbError) -> Refusal {
    if error.code().is_none_or(|code| code.code() != "TM004") {
        return Refusal::database(error);
    }
    match no_job_queue(session, queue).await {
        Ok(refusal) => caller.unknown_queue(Scope::Produce, queue, refusal),
        Err(error) => Refusal::database(&error),
    }
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
    fn what_is_not_supported_is_named() {
        for field in ["\"priority\":1", "\"unique\":{\"key\":\"k\"}", "\"timeout_ms\":5"] {
            assert!(check_supported(&job(&format!("{{\"type\":\"t\",{field}}}")), "").is_err(), "{field}");
        }
        assert!(
            check_supported(
                &job(r#"{"type":"t","priority":0,"trace":"00-1","delay_ms":5,"key":"a","coalesce_key":"b"}"#),
                ""
            )
            .is_ok()
        );
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
