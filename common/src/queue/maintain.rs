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
    /// A transaction somewhere in the cluster is older than the last switch.
    OldestTransaction,
    /// So is a prepared one, which no process holds.
    PreparedTransaction,
}

impl Blocked {
    /// All of them, in order.
    pub const ALL: [Self; 4] =
        [Self::Locked, Self::LaggingConsumer, Self::OldestTransaction, Self::PreparedTransaction];

    /// The word in SQL and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Locked => "locked",
            Self::LaggingConsumer => "lagging_consumer",
            Self::OldestTransaction => "oldest_transaction",
            Self::PreparedTransaction => "prepared_transaction",
        }
    }

    /// A reason that this program does not know is not one that it counts.
    fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

/// Something that maintenance has to do for a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Its time to be rotated has come; what stands in the way if that can be seen without trying.
    Rotate(String, Option<Blocked>),
    /// A rotation whose second step is missing.
    Finish(String),
    /// Ticks of events that were rotated out.
    Prune(String),
    /// Answers to requests with an idempotency key, whose time is over.
    Forget,
}

/// Who or what stands in the way of a rotation, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// The queue.
    pub queue: String,
    /// Why.
    pub reason: Blocked,
    /// Which transaction, consumer or process, and since when.
    pub detail: String,
}

/// A function that others want to be run, or a table to vacuum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// What it is called.
    pub name: String,
    /// The statement; one that returns 1 wants to be run again.
    pub statement: String,
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

/// What there is to do. A queue for which only the next tick is missing is left out. Writes nothing.
///
/// # Errors
/// [`DbError`].
pub async fn tasks(session: &mut Session) -> Result<Vec<Task>, DbError> {
    let op = "look for maintenance";
    let rows =
        session.query(op, "select queue_name, task, waits from tidemill.maintain_tasks()", &[]).await?;
    let mut tasks = Vec::with_capacity(rows.len());
    for row in &rows {
        let queue: String = column(op, session, row, 0)?;
        let waits: Option<String> = column(op, session, row, 2)?;
        match (column::<String>(op, session, row, 1)?.as_str(), waits.as_deref()) {
            ("rotate", None) => tasks.push(Task::Rotate(queue, None)),
            ("rotate", Some(word)) => {
                tasks.extend(Blocked::from_word(word).map(|reason| Task::Rotate(queue, Some(reason))));
            }
            ("finish", _) => tasks.push(Task::Finish(queue)),
            ("forget", _) => tasks.push(Task::Forget),
            _ => tasks.push(Task::Prune(queue)),
        }
    }
    Ok(tasks)
}

/// What stands in the way of the rotations that are due, in words. Writes nothing.
///
/// # Errors
/// [`DbError`].
pub async fn obstacles(session: &mut Session) -> Result<Vec<Obstacle>, DbError> {
    let op = "look for obstacles";
    let sql = "select queue_name, reason, detail from tidemill.rotation_obstacles()";
    let rows = session.query(op, sql, &[]).await?;
    let mut obstacles = Vec::with_capacity(rows.len());
    for row in &rows {
        if let Some(reason) = Blocked::from_word(&column::<String>(op, session, row, 1)?) {
            let (queue, detail) = (column(op, session, row, 0)?, column(op, session, row, 2)?);
            obstacles.push(Obstacle { queue, reason, detail });
        }
    }
    Ok(obstacles)
}

/// What others have asked a ticker to run. Writes nothing.
///
/// # Errors
/// [`DbError`].
pub async fn operations(session: &mut Session) -> Result<Vec<Operation>, DbError> {
    let op = "list operations";
    let rows = session.query(op, "select name, statement from tidemill.operations()", &[]).await?;
    rows.iter()
        .map(|row| {
            let (name, statement) = (column(op, session, row, 0)?, column(op, session, row, 1)?);
            Ok(Operation { name, statement })
        })
        .collect()
}

/// Runs an operation with this session's own rights. True: it wants to be run again.
///
/// # Errors
/// [`DbError`], whatever the function raised.
pub async fn operate(session: &mut Session, operation: &Operation) -> Result<bool, DbError> {
    let rows = session.query("run operation", &operation.statement, &[]).await?;
    // Of another type, or void: nothing to say.
    Ok(rows.first().is_some_and(|row| {
        matches!(row.try_get(0), Ok(Some(1_i32))) || matches!(row.try_get(0), Ok(Some(1_i64)))
    }))
}

/// Makes room on a full disk for what a rotation must write: drops the ballast. False: there was none.
///
/// # Errors
/// [`DbError`].
pub async fn drop_ballast(session: &mut Session) -> Result<bool, DbError> {
    let op = "drop ballast";
    let row = session.query_one(op, "select tidemill.drop_ballast()", &[]).await?;
    Ok(column::<i32>(op, session, &row, 0)? > 0)
}

/// Makes the ballast anew where it is missing and there is room for it.
///
/// # Errors
/// [`DbError`].
pub async fn keep_ballast(session: &mut Session) -> Result<(), DbError> {
    session.execute("keep ballast", "select tidemill.keep_ballast()", &[]).await?;
    Ok(())
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
        Some(word) => Blocked::from_word(word).map_or(Rotation::NotDue, Rotation::Blocked),
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

/// Forgets answers to requests with an idempotency key whose time is over; how many, at most `limit`.
///
/// # Errors
/// [`DbError`]; TM001 when the term is over.
pub async fn forget(session: &mut Session, holder: Uuid, epoch: Epoch, limit: u32) -> Result<u32, DbError> {
    let op = "forget answers";
    let limit = i32::try_from(limit).unwrap_or(i32::MAX);
    let params = [(&holder as _, Type::UUID), (&epoch.0 as _, Type::INT8), (&limit as _, Type::INT4)];
    let row = session.query_one(op, "select tidemill.ticker_forget($1, $2, $3)", &params).await?;
    Ok(u32::try_from(column::<i32>(op, session, &row, 0)?).unwrap_or(0))
}
