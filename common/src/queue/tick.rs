//! Ticking: one typed call per function of `sql/functions/20_tick`.

use std::time::{Duration, SystemTime};

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

/// What a database has to do for a ticker, and when: see `tidemill.tick_look`.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// What was visible before anything else was read: see [`visible`].
    pub visible: i64,
    /// When the server was started.
    pub server: SystemTime,
    /// Whose term was the last one.
    pub serving: Option<Uuid>,
    /// How long that term runs on; zero if it is over.
    pub term: Duration,
    /// A queue has events without a tick.
    pub news: bool,
    /// A queue has a doorbell.
    pub doorbell: bool,
    /// Until the next tick of an idle queue; zero: it is due.
    pub tick_in: Option<Duration>,
    /// Until something that waits for its time must be put back into the log.
    pub promote_in: Option<Duration>,
    /// Until there is maintenance to do.
    pub maintain_in: Option<Duration>,
}

/// Looks what there is to do. Writes nothing, unless `holder` is the ticker that serves, is going to be `asleep` for some
/// time, and a queue has a doorbell: then it tells producers, before it looks. Ticks of idle queues are wanted `later` than they are due: many databases
/// have the same time, and need not all tick at the same moment.
///
/// # Errors
/// [`DbError`]; 25006 on a server that is not the primary.
pub async fn look(
    session: &mut Session,
    later: Duration,
    (holder, asleep): (Uuid, Duration),
) -> Result<Look, DbError> {
    let op = "look for news";
    let sql = "select visible, server, serving, term_ms, news, doorbell, tick_ms, promote_ms, maintain_ms \
               from tidemill.tick_look($1, $2)";
    let asleep_ms = i32::try_from(asleep.as_millis()).unwrap_or(i32::MAX);
    let row = session.query_one(op, sql, &[(&holder, Type::UUID), (&asleep_ms, Type::INT4)]).await?;
    let wait_and = |index, later: Duration| {
        let ms: Option<f64> = column(op, session, &row, index)?;
        let wait = ms.map(|ms| Duration::try_from_secs_f64(ms / 1000.0 + later.as_secs_f64()));
        // What was due long ago is negative.
        Ok::<_, DbError>(wait.map(Result::unwrap_or_default))
    };
    let wait = |index| wait_and(index, Duration::ZERO);
    Ok(Look {
        visible: column(op, session, &row, 0)?,
        server: column(op, session, &row, 1)?,
        serving: column(op, session, &row, 2)?,
        term: wait(3)?.unwrap_or_default(),
        news: column(op, session, &row, 4)?,
        doorbell: column(op, session, &row, 5)?,
        tick_in: wait_and(6, later)?,
        promote_in: wait(7)?,
        maintain_in: wait(8)?,
    })
}

/// The server's snapshot as a number, and when the server was started. While the first is the same, no transaction with
/// an id has ended in any of its databases: checkpoints, vacuum and readers do not change it.
///
/// # Errors
/// [`DbError`].
pub async fn visible(session: &mut Session) -> Result<(i64, SystemTime), DbError> {
    let op = "read what is visible";
    let sql = "select pg_catalog.hashtextextended(pg_catalog.pg_current_snapshot()::text, 0), \
                      pg_catalog.pg_postmaster_start_time()";
    let row = session.query_one(op, sql, &[]).await?;
    Ok((column(op, session, &row, 0)?, column(op, session, &row, 1)?))
}

/// Address and port at which the server itself says it was reached; the same text for the same server's databases.
///
/// # Errors
/// [`DbError`].
pub async fn address(session: &mut Session) -> Result<String, DbError> {
    let op = "read server address";
    let sql = "select pg_catalog.format('%s:%s', pg_catalog.host(pg_catalog.inet_server_addr()), \
               pg_catalog.current_setting('port'))";
    let row = session.query_one(op, sql, &[]).await?;
    column(op, session, &row, 0)
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

/// Gives the term up, also one that is over, so that a standby need not wait. False: somebody else has had one since.
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

/// Writes something that waits for the disk and the synchronous standby, and so confirms all ticks before it. Prolongs
/// the term.
///
/// # Errors
/// [`DbError`]; TM001 when the term is over.
pub async fn confirm(
    session: &mut Session,
    holder: Uuid,
    epoch: Epoch,
    term: Duration,
) -> Result<(), DbError> {
    let term_ms = i32::try_from(term.as_millis()).unwrap_or(i32::MAX);
    let params = [(&holder as _, Type::UUID), (&epoch.0 as _, Type::INT8), (&term_ms as _, Type::INT4)];
    session.execute("confirm ticks", "select tidemill.confirm_ticks($1, $2, $3)", &params).await?;
    Ok(())
}

/// What a server knows of a tick that was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Testimony {
    /// It is there.
    Found,
    /// The queue's ticks end before it: the server went back in time, and refuses everything from now on.
    Lost,
    /// The queue is gone, or its ticks went on.
    Unknown,
}

/// Asks for the tick that this process committed last. `last`: nobody can have ticked in this database since; then a
/// server that has it has lost nothing, and a failover is accepted.
///
/// # Errors
/// [`DbError`].
pub async fn witness(
    session: &mut Session,
    queue: &str,
    tick: TickId,
    last: bool,
) -> Result<Testimony, DbError> {
    let op = "witness a tick";
    let sql = "select tidemill.witness_tick($1, $2, $3)";
    let params = &[(&queue as _, Type::TEXT), (&tick.0 as _, Type::INT8), (&last as _, Type::BOOL)];
    let row = session.query_one(op, sql, params).await?;
    Ok(match column::<String>(op, session, &row, 0)?.as_str() {
        "found" => Testimony::Found,
        "lost" => Testimony::Lost,
        _ => Testimony::Unknown,
    })
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
