//! Dispatch: who owns a job queue, and what it reads. One call per SQL function, no logic.

mod read;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_postgres::types::Json;
use uuid::Uuid;

use crate::api::QueueLimits;
use crate::db::{DbError, Row, Session, Type};
use crate::id::{Epoch, TickId};

pub use read::{EventRow, MovedRun, READ_AHEAD, RowMark, origins, range, read_ahead};

/// A job queue, its settings and its owner (`tidemill.dispatch_queues`).
#[derive(Debug, Clone, PartialEq)]
pub struct JobQueue {
    pub name: String,
    pub queue_id: i32,
    pub sub_id: i32,
    pub lease_ms: i32,
    pub max_attempts: i32,
    /// `exponential`, by base and cap, or a preset's name.
    pub backoff: String,
    pub backoff_base_ms: i32,
    pub backoff_cap_ms: i32,
    /// Jobs the owner holds in memory, and bytes of them; `None`: as its dispatcher is configured.
    pub window_jobs: Option<i32>,
    pub window_bytes: Option<i64>,
    pub limits: QueueLimits,
    /// Its producers end the ticker's sleep.
    pub doorbell: bool,
    pub paused: Paused,
    pub owner: Owner,
}

/// What of a job queue is not handed out for now (`tidemill.dispatch_paused`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// How often it was changed: the higher of two readings is the later one.
    pub no: i64,
    /// All of it.
    pub queue: bool,
    /// Jobs of these types.
    pub types: Vec<String>,
    /// Jobs with these keys.
    pub keys: Vec<String>,
}

/// Who may write the journal of a job queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub epoch: Epoch,
    /// Instance of the dispatcher process; `None` if there never was one.
    pub holder: Option<Uuid>,
    /// Where others forward to.
    pub address: Option<String>,
    /// What was left of its term, in milliseconds; 0: the queue is free.
    pub left_ms: i64,
}

/// A row of the journal (`tidemill.read_journal`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalRow {
    pub epoch: Epoch,
    pub at: Timestamp,
    pub data: Vec<u8>,
    /// What only the database knew when it was written.
    pub note: Option<serde_json::Value>,
}

/// Every job queue of the database.
///
/// # Errors
/// [`DbError`]
pub async fn queues(session: &mut Session) -> Result<Vec<JobQueue>, DbError> {
    let op = "list job queues";
    let rows = session.query(op, "select * from tidemill.dispatch_queues()", &[]).await?;
    let database = session.database();
    let read = |row: &Row| -> Result<JobQueue, tokio_postgres::Error> {
        Ok(JobQueue {
            name: row.try_get("o_queue")?,
            queue_id: row.try_get("o_queue_id")?,
            sub_id: row.try_get("o_sub_id")?,
            lease_ms: row.try_get("o_lease_ms")?,
            max_attempts: row.try_get("o_max_attempts")?,
            backoff: row.try_get("o_backoff")?,
            backoff_base_ms: row.try_get("o_backoff_base_ms")?,
            backoff_cap_ms: row.try_get("o_backoff_cap_ms")?,
            window_jobs: row.try_get("o_window_jobs")?,
            window_bytes: row.try_get("o_window_bytes")?,
            doorbell: row.try_get("o_doorbell")?,
            limits: row
                .try_get::<_, Option<Json<QueueLimits>>>("o_limits")?
                .map(|json| json.0)
                .unwrap_or_default(),
            paused: row
                .try_get::<_, Option<Json<Paused>>>("o_paused")?
                .map(|json| json.0)
                .unwrap_or_default(),
            owner: Owner {
                epoch: Epoch(row.try_get("o_epoch")?),
                holder: row.try_get("o_holder")?,
                address: row.try_get("o_address")?,
                left_ms: row.try_get("o_left_ms")?,
            },
        })
    };
    rows.iter().map(|row| read(row).map_err(|e| DbError::decode(op, &database, e))).collect()
}

/// Takes over a queue whose owner's term has ended, or one's own; `None` if somebody else was faster.
///
/// # Errors
/// [`DbError`]; 55P03 if an old owner's flush holds the fence: see [`evict`].
pub async fn take(
    session: &mut Session,
    queue_id: i32,
    seen: Epoch,
    (holder, address): (Uuid, &str),
    term_ms: i32,
) -> Result<Option<Epoch>, DbError> {
    let op = "take over job queue";
    let row = session
        .query_one(
            op,
            "select tidemill.owner_take($1, $2, $3, $4, $5)",
            &[
                (&queue_id, Type::INT4),
                (&seen.0, Type::INT8),
                (&holder, Type::UUID),
                (&address, Type::TEXT),
                (&term_ms, Type::INT4),
            ],
        )
        .await?;
    let epoch: Option<i64> = row.try_get(0).map_err(|e| DbError::decode(op, &session.database(), e))?;
    Ok(epoch.map(Epoch))
}

/// Ends the backends that hold the fence of a queue whose owner's term has ended.
///
/// # Errors
/// [`DbError`]
pub async fn evict(session: &mut Session, queue_id: i32) -> Result<(), DbError> {
    let call = "select tidemill.owner_evict($1)";
    session.execute("evict old owner", call, &[(&queue_id, Type::INT4)]).await.map(drop)
}

/// Extends the term and moves the low-water mark, forward only.
///
/// # Errors
/// [`DbError`]; TM001 when the epoch has moved on.
pub async fn renew(
    session: &mut Session,
    queue_id: i32,
    epoch: Epoch,
    term_ms: i32,
    low_water: TickId,
) -> Result<(), DbError> {
    session
        .execute(
            "renew term",
            "select tidemill.owner_renew($1, $2, $3, $4)",
            &[
                (&queue_id, Type::INT4),
                (&epoch.0, Type::INT8),
                (&term_ms, Type::INT4),
                (&low_water.0, Type::INT8),
            ],
        )
        .await
        .map(drop)
}

/// Ends one's own term at once.
///
/// # Errors
/// [`DbError`]
pub async fn release(session: &mut Session, queue_id: i32, epoch: Epoch) -> Result<(), DbError> {
    let call = "select tidemill.owner_release($1, $2)";
    session
        .execute("release job queue", call, &[(&queue_id, Type::INT4), (&epoch.0, Type::INT8)])
        .await
        .map(drop)
}

/// The low-water mark, and the journal rows about entries above it, in the order they were written.
///
/// # Errors
/// [`DbError`]; TM004 when the queue is no job queue any more.
pub async fn journal(session: &mut Session, queue_id: i32) -> Result<(TickId, Vec<JournalRow>), DbError> {
    let op = "read journal";
    let call = "select o_low_water, o_epoch, o_at, o_data, o_note from tidemill.read_journal($1)";
    let rows = session.query(op, call, &[(&queue_id, Type::INT4)]).await?;
    let database = session.database();
    let read = || -> Result<(TickId, Vec<JournalRow>), tokio_postgres::Error> {
        let mut low_water = TickId(0);
        let mut journal = Vec::with_capacity(rows.len());
        for row in &rows {
            if let Some(tick) = row.try_get::<_, Option<i64>>(0)? {
                low_water = TickId(tick);
            } else {
                journal.push(JournalRow {
                    epoch: Epoch(row.try_get(1)?),
                    at: row.try_get(2)?,
                    data: row.try_get(3)?,
                    note: row.try_get(4)?,
                });
            }
        }
        Ok((low_water, journal))
    };
    read().map_err(|e| DbError::decode(op, &database, e))
}

/// Parked jobs in the waiting room (`tidemill.parked_types`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedJobs {
    pub kind: String,
    /// Of those that are parked for the limit of their key: then the type says nothing.
    pub key: Option<String>,
    pub count: i64,
}

/// Which types and keys have parked jobs in the waiting room, and how many.
///
/// # Errors
/// [`DbError`]
pub async fn parked_types(session: &mut Session, queue_id: i32) -> Result<Vec<ParkedJobs>, DbError> {
    let op = "count parked jobs";
    let call = "select o_type, o_key, o_count from tidemill.parked_types($1)";
    let rows = session.query(op, call, &[(&queue_id, Type::INT4)]).await?;
    let database = session.database();
    let read = |row: &Row| -> Result<_, tokio_postgres::Error> {
        Ok(ParkedJobs { kind: row.try_get(0)?, key: row.try_get(1)?, count: row.try_get(2)? })
    };
    rows.iter().map(|row| read(row).map_err(|e| DbError::decode(op, &database, e))).collect()
}

/// A lease that lives in the waiting room (`tidemill.lent_leases`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LentLease {
    pub job: i64,
    pub epoch: i64,
    pub number: i64,
    pub kind: String,
    pub key: Option<String>,
}

/// The leases that live in the waiting room, with the types and keys of their jobs.
///
/// # Errors
/// [`DbError`]
pub async fn lent_leases(session: &mut Session, queue_id: i32) -> Result<Vec<LentLease>, DbError> {
    let op = "read leases of the waiting room";
    let call = "select o_job, o_epoch, o_no, o_type, o_key from tidemill.lent_leases($1)";
    let rows = session.query(op, call, &[(&queue_id, Type::INT4)]).await?;
    let database = session.database();
    let read = |row: &Row| -> Result<_, tokio_postgres::Error> {
        Ok(LentLease {
            job: row.try_get(0)?,
            epoch: row.try_get(1)?,
            number: row.try_get(2)?,
            kind: row.try_get(3)?,
            key: row.try_get(4)?,
        })
    };
    rows.iter().map(|row| read(row).map_err(|e| DbError::decode(op, &database, e))).collect()
}

/// Which leases of these jobs live in the waiting room: epochs and numbers.
///
/// # Errors
/// [`DbError`]
pub async fn still_lent(
    session: &mut Session,
    queue_id: i32,
    jobs: &[i64],
) -> Result<Vec<(i64, i64)>, DbError> {
    let op = "look for leases in the waiting room";
    let call = "select o_epoch, o_no from tidemill.still_lent($1, $2)";
    let params = [(&queue_id as _, Type::INT4), (&jobs as _, Type::INT8_ARRAY)];
    let rows = session.query(op, call, &params).await?;
    let database = session.database();
    let read = |row: &Row| -> Result<_, tokio_postgres::Error> { Ok((row.try_get(0)?, row.try_get(1)?)) };
    rows.iter().map(|row| read(row).map_err(|e| DbError::decode(op, &database, e))).collect()
}

/// What is left to do of a cancellation (`tidemill.read_cancellations`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancellation {
    /// All jobs with the key that the snapshot (PostgreSQL's text) sees are to end.
    Key { key: i64, code: i32, snapshot: String },
    /// This job is to end.
    Job { job: i64, code: i32 },
}

/// What cancellations of a queue still have to do.
///
/// # Errors
/// [`DbError`]
pub async fn cancellations(session: &mut Session, queue_id: i32) -> Result<Vec<Cancellation>, DbError> {
    let op = "read cancellations";
    let call = "select o_key, o_job, o_code, o_snapshot from tidemill.read_cancellations($1)";
    let rows = session.query(op, call, &[(&queue_id, Type::INT4)]).await?;
    let database = session.database();
    let read = |row: &Row| -> Result<Cancellation, tokio_postgres::Error> {
        let code = row.try_get(2)?;
        Ok(match row.try_get(0)? {
            Some(key) => Cancellation::Key { key, code, snapshot: row.try_get(3)? },
            None => Cancellation::Job { job: row.try_get(1)?, code },
        })
    };
    rows.iter().map(|row| read(row).map_err(|e| DbError::decode(op, &database, e))).collect()
}

/// What of a queue is paused now; `None` if it is no job queue.
///
/// # Errors
/// [`DbError`]
pub async fn paused(session: &mut Session, queue_id: i32) -> Result<Option<Paused>, DbError> {
    let op = "look what is paused";
    let row =
        session.query_one(op, "select tidemill.dispatch_paused($1)", &[(&queue_id, Type::INT4)]).await?;
    let paused: Option<Json<Paused>> =
        row.try_get(0).map_err(|e| DbError::decode(op, &session.database(), e))?;
    Ok(paused.map(|json| json.0))
}

/// Pauses types and keys of a queue, or all of it if neither is given; or takes that back. What is paused afterwards.
///
/// # Errors
/// [`DbError`]; TM004 when the queue is no job queue any more; 54000 beyond 1,000 types or keys.
pub async fn pause(
    session: &mut Session,
    queue_id: i32,
    (types, keys): (Option<&[String]>, Option<&[String]>),
    is_paused: bool,
) -> Result<Paused, DbError> {
    let op = if is_paused { "pause a queue" } else { "resume a queue" };
    let row = session
        .query_one(
            op,
            "select tidemill.pause_queue($1, $2, $3, $4)",
            &[
                (&queue_id, Type::INT4),
                (&types, Type::TEXT_ARRAY),
                (&keys, Type::TEXT_ARRAY),
                (&is_paused, Type::BOOL),
            ],
        )
        .await?;
    let Json(paused) = row.try_get(0).map_err(|e| DbError::decode(op, &session.database(), e))?;
    Ok(paused)
}
