//! Work: what an owner writes. One call per SQL function, no logic.

use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::types::Json;
use uuid::Uuid;

use crate::api::{Holder, WorkerState};
use crate::db::{DbError, Row, Session, Type};
use crate::id::Epoch;

/// What `tidemill.journal_write` answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// Database time behind the fence: what lease ends are counted from.
    pub at: Timestamp,
    /// `{"finish": [...], "extend": [...]}` if the flush touched the waiting room.
    pub answers: Option<Value>,
}

/// One flush: a journal row and what goes with it, fenced by the epoch, in autocommit.
///
/// # Errors
/// [`DbError`]; TM001 when the epoch has moved on; class 22 or 23 if an item's data is refused. After an error whose
/// outcome is unknown the queue must be taken over again.
pub async fn journal_write(
    session: &mut Session,
    queue_id: i32,
    epoch: Epoch,
    seq: i64,
    data: Option<&[u8]>,
    cold: Option<&str>,
) -> Result<Written, DbError> {
    let op = "write journal";
    let row = session
        .query_one(
            op,
            "select o_at, o_answers from tidemill.journal_write($1, $2, $3, $4, $5::jsonb)",
            &[
                (&queue_id, Type::INT4),
                (&epoch.0, Type::INT8),
                (&seq, Type::INT8),
                (&data, Type::BYTEA),
                (&cold, Type::TEXT),
            ],
        )
        .await?;
    let read = || -> Result<Written, tokio_postgres::Error> {
        Ok(Written { at: row.try_get(0)?, answers: row.try_get(1)? })
    };
    read().map_err(|e| DbError::decode(op, &session.database(), e))
}

/// The database's clock, for an owner that has not written yet.
///
/// # Errors
/// [`DbError`]
pub async fn clock(session: &mut Session) -> Result<Timestamp, DbError> {
    let op = "read the clock";
    let row = session.query_one(op, "select pg_catalog.clock_timestamp()", &[]).await?;
    row.try_get(0).map_err(|e| DbError::decode(op, &session.database(), e))
}

/// Leases that live in the waiting room, of one holder in one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingLeases {
    pub queue: String,
    pub holder: Holder,
    pub count: i64,
}

/// Who holds the leases that live in the waiting room (`tidemill.waiting_leases`).
///
/// # Errors
/// [`DbError`]
pub async fn waiting_leases(session: &mut Session) -> Result<Vec<WaitingLeases>, DbError> {
    let op = "count leases in the waiting room";
    let rows =
        session.query(op, "select o_queue, o_holder, o_count from tidemill.waiting_leases()", &[]).await?;
    let database = session.database();
    let read = |row: &Row| -> Result<WaitingLeases, tokio_postgres::Error> {
        let Json(holder) = row.try_get(1)?;
        Ok(WaitingLeases { queue: row.try_get(0)?, holder, count: row.try_get(2)? })
    };
    rows.iter().map(|row| read(row).map_err(|e| DbError::decode(op, &database, e))).collect()
}

/// Remembers what a worker is told from now on (`tidemill.steer_worker`).
///
/// # Errors
/// [`DbError`]
pub async fn steer(session: &mut Session, instance: Uuid, state: WorkerState) -> Result<(), DbError> {
    let sql = "select tidemill.steer_worker($1, $2)";
    let params = [(&instance as _, Type::UUID), (&state.as_str() as _, Type::TEXT)];
    session.query_one("steer a worker", sql, &params).await.map(drop)
}

/// The workers that are told something else than to run (`tidemill.steered_workers`). A state that this version does
/// not know is one to finish and grab nothing in.
///
/// # Errors
/// [`DbError`]
pub async fn steered(session: &mut Session) -> Result<Vec<(Uuid, WorkerState)>, DbError> {
    let op = "list steered workers";
    let rows = session.query(op, "select o_instance, o_state from tidemill.steered_workers()", &[]).await?;
    let database = session.database();
    let read = |row: &Row| -> Result<(Uuid, WorkerState), tokio_postgres::Error> {
        let state = match row.try_get(1)? {
            "terminate" => WorkerState::Terminate,
            _ => WorkerState::Quiet,
        };
        Ok((row.try_get(0)?, state))
    };
    rows.iter().map(|row| read(row).map_err(|e| DbError::decode(op, &database, e))).collect()
}
