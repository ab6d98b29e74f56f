//! In a database transaction of the program's own.

use serde::Serialize;
use serde_json::value::RawValue;
use tidemill_common::api::{At, Faults, JobOptions, NewJob, Validate};
use tidemill_common::id::JobId;
use tokio_postgres::GenericClient;
use tokio_postgres::types::Type;

use crate::job::JobKind;

/// Why a job was not inserted. The transaction is in the state that PostgreSQL left it in.
#[derive(Debug, thiserror::Error)]
pub enum InsertError {
    /// The arguments cannot be written as JSON.
    #[error("write the arguments of a `{0}`")]
    Args(&'static str, #[source] serde_json::Error),
    /// A limit: nothing was sent.
    #[error("a `{job_type}` cannot be stored: {pointer} {detail}")]
    Limit {
        /// The job's type.
        job_type: &'static str,
        /// Where.
        pointer: String,
        /// What.
        detail: String,
    },
    /// PostgreSQL refused: no such queue, not a job queue, no right, connection lost; an open transaction that has the
    /// same unique key (SQLSTATE 55P03).
    #[error("insert jobs into {0}")]
    Insert(String, #[source] tokio_postgres::Error),
    /// The schema is not the one of this version.
    #[error("`tidemill.insert_job` returned something that is not a job id")]
    Answer,
}

/// Inserts one job. If its unique key is held, the id is that of the job that is there.
///
/// ```no_run
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize)] struct SendEmail { to: String }
/// # impl tidemill_worker::JobKind for SendEmail { const TYPE: &'static str = "send_email"; }
/// # async fn sign_up(client: &mut tokio_postgres::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use tidemill_worker::{JobOptions, produce};
///
/// let tx = client.transaction().await?;
/// tx.execute("insert into customer (email) values ($1)", &[&"a@example.org"]).await?;
/// produce::insert(&tx, "mail", &SendEmail { to: "a@example.org".into() }, &JobOptions::default()).await?;
/// tx.commit().await?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`InsertError`]. Arguments with a NUL character are refused: PostgreSQL cannot store it.
pub async fn insert<T: JobKind>(
    db: &impl GenericClient,
    queue: &str,
    job: &T,
    options: &JobOptions,
) -> Result<JobId, InsertError> {
    let args = checked(job, options)?;
    let options = (!options.is_empty()).then(|| json(options));
    let row = db
        .query_typed(
            "select tidemill.insert_job($1, $2, $3::text::jsonb, $4::text::jsonb)",
            &[
                (&queue, Type::TEXT),
                (&T::TYPE, Type::TEXT),
                (&args.get(), Type::TEXT),
                (&options.as_deref(), Type::TEXT),
            ],
        )
        .await
        .map_err(|error| InsertError::Insert(queue.to_owned(), error))?;
    ids(&row)?.pop().ok_or(InsertError::Answer)
}

/// Inserts many jobs with the same options, in one statement. Returns their ids in the same order.
///
/// # Errors
/// [`InsertError`]; then none is inserted.
pub async fn insert_many<T: JobKind>(
    db: &impl GenericClient,
    queue: &str,
    jobs: &[T],
    options: &JobOptions,
) -> Result<Vec<JobId>, InsertError> {
    #[derive(Serialize)]
    struct Item<'a> {
        r#type: &'static str,
        args: Box<RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        options: Option<&'a JobOptions>,
    }
    let shared = (!options.is_empty()).then_some(options);
    let items = jobs
        .iter()
        .map(|job| Ok(Item { r#type: T::TYPE, args: checked(job, options)?, options: shared }))
        .collect::<Result<Vec<_>, InsertError>>()?;
    let rows = db
        .query_typed(
            "select tidemill.insert_jobs($1, $2::text::jsonb)",
            &[(&queue, Type::TEXT), (&json(&items), Type::TEXT)],
        )
        .await
        .map_err(|error| InsertError::Insert(queue.to_owned(), error))?;
    ids(&rows)
}

/// The arguments as JSON, checked together with the options as a dispatcher would.
fn checked<T: JobKind>(job: &T, options: &JobOptions) -> Result<Box<RawValue>, InsertError> {
    let new = new_job(job, options).map_err(|error| InsertError::Args(T::TYPE, error))?;
    let mut faults = Faults::default();
    new.validate(At::Body, &mut faults);
    if let Some(fault) = faults.into_violations().into_iter().next() {
        return Err(InsertError::Limit { job_type: T::TYPE, pointer: fault.pointer, detail: fault.detail });
    }
    new.args.ok_or(InsertError::Answer)
}

/// A job as it travels.
pub(super) fn new_job<T: JobKind>(job: &T, options: &JobOptions) -> Result<NewJob, serde_json::Error> {
    Ok(NewJob::new(T::TYPE, Some(serde_json::value::to_raw_value(job)?), options.clone()))
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("the types of the contract can be written as JSON")
}

fn ids(rows: &[tokio_postgres::Row]) -> Result<Vec<JobId>, InsertError> {
    rows.iter()
        .map(|row| {
            let id: &str = row.try_get(0).map_err(|_| InsertError::Answer)?;
            id.parse().map_err(|_| InsertError::Answer)
        })
        .collect()
}
