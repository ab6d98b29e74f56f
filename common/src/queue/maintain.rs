//! Maintaining: one typed call per function of `sql/functions/90_maintain` that a service runs.

use uuid::Uuid;

use super::tick::column;
use crate::db::{DbError, Session, Type};
use crate::id::Epoch;

/// Why a queue's oldest event table was not emptied. A closed set: it labels a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blocked {
    /// Somebody reads the table (a long query, `pg_dump`), or another session maintains this queue.
    Locked,
    /// A consumer has not read that far.
    LaggingConsumer,
    /// A transaction somewhere in the cluster, maybe a prepared one, is older than the last switch.
    OldestTransaction,
}

impl Blocked {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::Locked, Self::LaggingConsumer, Self::OldestTransaction];

    /// The word in SQL and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Locked => "locked",
            Self::LaggingConsumer => "lagging_consumer",
            Self::OldestTransaction => "oldest_transaction",
        }
    }
}

/// What an attempt to rotate a queue found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// The oldest table was emptied and is the current one now. [`rotated`] must follow.
    Done,
    /// Its time has not come.
    NotDue,
    /// Its time has come, but something needs the table.
    Blocked(Blocked),
}

/// How much was put back into the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Jobs of the waiting room; as many as the limit: there may be more.
    pub promoted: u32,
    /// Retry events; not zero: there may be more.
    pub retried: u32,
}

/// Puts what is due back into the log: at most `limit` jobs, and retry events. Repeating it is harmless.
///
/// # Errors
/// [`DbError`]; TM001 when the term is over.
pub async fn due(session: &mut Session, holder: Uuid, epoch: Epoch, limit: u32) -> Result<Due, DbError> {
    let op = "put due jobs back";
    let limit = i32::try_from(limit).unwrap_or(i32::MAX);
    let sql = "select promoted, retried from tidemill.ticker_due($1, $2, $3)";
    let params = [(&holder as _, Type::UUID), (&epoch.0 as _, Type::INT8), (&limit as _, Type::INT4)];
    let row = session.query_one(op, sql, &params).await?;
    let count = |index| column::<i32>(op, session, &row, index).map(|n| u32::try_from(n).unwrap_or(0));
    Ok(Due { promoted: count(0)?, retried: count(1)? })
}

/// The names of all queues, sorted.
///
/// # Errors
/// [`DbError`].
pub async fn queues(session: &mut Session) -> Result<Vec<String>, DbError> {
    let op = "list queues";
    let rows = session.query(op, "select queue_name from pgq.queue order by queue_name", &[]).await?;
    rows.iter().map(|row| column(op, session, row, 0)).collect()
}

/// Empties the oldest event table of a queue if its time has come and nobody needs it.
///
/// # Errors
/// [`DbError`]; TM001 when the term is over, P0002 when there is no such queue.
pub async fn rotate(
    session: &mut Session,
    holder: Uuid,
    epoch: Epoch,
    queue: &str,
) -> Result<Rotation, DbError> {
    let op = "rotate";
    let sql = "select tidemill.ticker_rotate($1, $2, $3)";
    let params = [(&holder as _, Type::UUID), (&epoch.0 as _, Type::INT8), (&queue as _, Type::TEXT)];
    let row = session.query_one(op, sql, &params).await?;
    let answer: Option<String> = column(op, session, &row, 0)?;
    Ok(match answer.as_deref() {
        None => Rotation::Done,
        // A reason that this program does not know is not one that it counts.
        Some(word) => Blocked::ALL
            .into_iter()
            .find(|reason| reason.as_str() == word)
            .map_or(Rotation::NotDue, Rotation::Blocked),
    })
}

/// Rotation's second step, in a later transaction than the first: without it no queue rotates again.
///
/// # Errors
/// [`DbError`]; TM001 when the term is over.
pub async fn rotated(session: &mut Session, holder: Uuid, epoch: Epoch) -> Result<(), DbError> {
    let sql = "select tidemill.ticker_rotated($1, $2)";
    session.execute("finish rotation", sql, &[(&holder, Type::UUID), (&epoch.0, Type::INT8)]).await?;
    Ok(())
}
