//! Reading the log ahead of the low-water mark: ranges between ticks, their rows, and where these came from.

use jiff::Timestamp;

use crate::db::{DbError, Row, Session, Type};
use crate::id::TickId;

/// A row of a job queue's log (`tidemill.read_ahead`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    pub id: i64,
    /// The transaction that wrote it.
    pub txid: i64,
    pub time: Timestamp,
    pub owner: Option<i32>,
    pub retry: Option<i32>,
    pub kind: Option<String>,
    pub data: Option<String>,
    pub extra: [Option<String>; 4],
}

/// The tick up to which a reader may go on from `from`, for about `max_events` events, and whether some events of the
/// queue were moved there, so that [`origins`] knows of them; `None`: no later tick.
///
/// # Errors
/// [`DbError`]
pub async fn range(
    session: &mut Session,
    queue_id: i32,
    from: TickId,
    max_events: i32,
) -> Result<Option<(TickId, bool)>, DbError> {
    let op = "look for ticks";
    let row = session
        .query_one(
            op,
            "select tidemill.read_range($1, $2, $3), tidemill.has_origins($1)",
            &[(&queue_id, Type::INT4), (&from.0, Type::INT8), (&max_events, Type::INT4)],
        )
        .await?;
    let read = || -> Result<_, tokio_postgres::Error> {
        Ok(row.try_get::<_, Option<i64>>(0)?.map(TickId).zip(row.try_get(1)?))
    };
    read().map_err(|e| DbError::decode(op, &session.database(), e))
}

/// Events with consecutive ids that were moved from one queue (`tidemill.read_origins`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovedRun {
    /// The id of the first one here.
    pub first: i64,
    pub source: String,
    pub queue: String,
    /// Their ids there, in order.
    pub ids: Vec<i64>,
}

/// Where the events with ids in these runs (both ends included) were moved from, as far as they were.
///
/// # Errors
/// [`DbError`]
pub async fn origins(
    session: &mut Session,
    queue_id: i32,
    (from, to): (&[i64], &[i64]),
) -> Result<Vec<MovedRun>, DbError> {
    let op = "look for the origins of events";
    let call = "select o_first, o_source, o_queue, o_ids from tidemill.read_origins($1, $2, $3)";
    let params = [(&queue_id as _, Type::INT4), (&from as _, Type::INT8_ARRAY), (&to as _, Type::INT8_ARRAY)];
    let rows = session.query(op, call, &params).await?;
    let database = session.database();
    let read = |row: &Row| -> Result<MovedRun, tokio_postgres::Error> {
        Ok(MovedRun {
            first: row.try_get(0)?,
            source: row.try_get(1)?,
            queue: row.try_get(2)?,
            ids: row.try_get(3)?,
        })
    };
    rows.iter().map(|row| read(row).map_err(|e| DbError::decode(op, &database, e))).collect()
}

/// Where a piece of the log ended: transaction id and event id of its last row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowMark {
    pub txid: i64,
    pub id: i64,
}

/// The name of [`read_ahead`]'s call. The piece after the first of a large transaction passes over all of it: about two
/// microseconds an event.
pub const READ_AHEAD: &str = "read events";

/// A piece of the events between two ticks: those after the mark (`None`: from the start), by transaction id and event
/// id, at most `rows` and about `bytes` of content, at least one. Also the mark to go on from; `None`: nothing is left.
///
/// # Errors
/// [`DbError`]
pub async fn read_ahead<T>(
    session: &mut Session,
    (queue_id, sub_id): (i32, i32),
    (from, to): (TickId, TickId),
    after: Option<RowMark>,
    (rows, bytes): (i32, i64),
    make: impl Fn(EventRow) -> T,
) -> Result<(Vec<T>, Option<RowMark>), DbError> {
    let mut mark = None;
    let read = |row: &Row| -> Result<T, tokio_postgres::Error> {
        let event = event(row)?;
        mark = Some(RowMark { txid: event.txid, id: event.id });
        Ok(make(event))
    };
    let events = session
        .query_each(
            READ_AHEAD,
            "select ev_id, ev_time, ev_owner, ev_retry, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4, \
             ev_txid from tidemill.read_ahead($1, $2, $3, $4, $5, $6, $7, $8)",
            &[
                (&queue_id, Type::INT4),
                (&sub_id, Type::INT4),
                (&from.0, Type::INT8),
                (&to.0, Type::INT8),
                (&after.map(|mark| mark.txid), Type::INT8),
                (&after.map(|mark| mark.id), Type::INT8),
                (&rows, Type::INT4),
                (&bytes, Type::INT8),
            ],
            read,
        )
        .await?;
    Ok((events, mark))
}

fn event(row: &Row) -> Result<EventRow, tokio_postgres::Error> {
    Ok(EventRow {
        id: row.try_get(0)?,
        txid: row.try_get(10)?,
        time: row.try_get(1)?,
        owner: row.try_get(2)?,
        retry: row.try_get(3)?,
        kind: row.try_get(4)?,
        data: row.try_get(5)?,
        extra: [row.try_get(6)?, row.try_get(7)?, row.try_get(8)?, row.try_get(9)?],
    })
}
