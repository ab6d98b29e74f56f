//! Ticking: one typed call per function of `sql/functions/20_tick`.

use std::time::Duration;

use uuid::Uuid;

use crate::db::{DbError, Row, Session, Type};
use crate::id::{Epoch, TickId};

/// What a pass did to one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ticked {
    /// A tick was cut.
    Cut {
        /// The queue's name.
        queue: String,
        /// The tick.
        tick: TickId,
        /// By how much the event sequence has moved since the tick before.
        new_events: u64,
    },
    /// The queue could not be ticked; the others were.
    Failed {
        /// The queue's name.
        queue: String,
        /// SQLSTATE and message.
        problem: String,
    },
}

/// How far one queue's ticks are.
#[derive(Debug, Clone, PartialEq)]
pub struct TickStatus {
    /// The queue's name.
    pub queue: String,
    /// Its last tick.
    pub last_tick: Option<TickId>,
    /// How long ago that was, by the database's clock.
    pub age: Option<Duration>,
    /// False while the queue is paused or its ticks come from elsewhere.
    pub ticking: bool,
}

/// Takes this database's ticker term for `term` from now, or prolongs it. `None`: another holder's term runs.
///
/// # Errors
/// [`DbError`].
pub async fn hold(session: &mut Session, holder: Uuid, term: Duration) -> Result<Option<Epoch>, DbError> {
    let op = "hold ticker term";
    let term_ms = i32::try_from(term.as_millis()).unwrap_or(i32::MAX);
    let sql = "select tidemill.hold_ticker($1, $2)";
    let row = session.query_one(op, sql, &[(&holder, Type::UUID), (&term_ms, Type::INT4)]).await?;
    Ok(column::<Option<i64>>(op, session, &row, 0)?.map(Epoch))
}

/// Ends the term, so that a standby need not wait for its end. False: it was over.
///
/// # Errors
/// [`DbError`].
pub async fn release(session: &mut Session, holder: Uuid, epoch: Epoch) -> Result<bool, DbError> {
    let op = "release ticker term";
    let sql = "select tidemill.release_ticker($1, $2)";
    let row = session.query_one(op, sql, &[(&holder, Type::UUID), (&epoch.0, Type::INT8)]).await?;
    column(op, session, &row, 0)
}

/// Ticks every queue that has news. Repeating it is harmless.
///
/// # Errors
/// [`DbError`]; TM001 when the term is over, TM003 when the ticks belong to another database (`NeedsRebase`).
pub async fn pass(session: &mut Session, holder: Uuid, epoch: Epoch) -> Result<Vec<Ticked>, DbError> {
    let op = "tick";
    let sql = "select queue_name, tick_id, new_events, problem from tidemill.ticker_pass($1, $2)";
    let rows = session.query(op, sql, &[(&holder, Type::UUID), (&epoch.0, Type::INT8)]).await?;
    rows.iter()
        .map(|row| {
            let queue = column(op, session, row, 0)?;
            Ok(match column::<Option<i64>>(op, session, row, 1)? {
                Some(tick) => {
                    let new_events = column::<i64>(op, session, row, 2)?;
                    Ticked::Cut {
                        queue,
                        tick: TickId(tick),
                        new_events: u64::try_from(new_events).unwrap_or(0),
                    }
                }
                None => Ticked::Failed { queue, problem: column(op, session, row, 3)? },
            })
        })
        .collect()
}

/// How far the ticks of all queues are, by name.
///
/// # Errors
/// [`DbError`].
pub async fn status(session: &mut Session) -> Result<Vec<TickStatus>, DbError> {
    let op = "read tick status";
    let sql = "select queue_name, last_tick_id, tick_age_seconds, ticking from tidemill.tick_status()";
    let rows = session.query(op, sql, &[]).await?;
    rows.iter()
        .map(|row| {
            let age = column::<Option<f64>>(op, session, row, 2)?;
            Ok(TickStatus {
                queue: column(op, session, row, 0)?,
                last_tick: column::<Option<i64>>(op, session, row, 1)?.map(TickId),
                age: age.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()),
                ticking: column(op, session, row, 3)?,
            })
        })
        .collect()
}

pub(super) fn column<T>(op: &'static str, session: &Session, row: &Row, index: usize) -> Result<T, DbError>
where
    T: for<'r> tokio_postgres::types::FromSql<'r>,
{
    row.try_get(index).map_err(|error| DbError::decode(op, &session.database(), error))
}
