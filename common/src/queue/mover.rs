//! Moving: one typed call per function of `sql/functions/40_move`, source side first.

mod types;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_postgres::types::Json;
use uuid::Uuid;

use crate::db::{DbError, Param, Row, Session, Tx, Type};
use crate::id::{ConsumerName, Epoch, QueueName};

pub use types::{
    Advance, Batch, CopyTarget, Cursor, DestinationIdentity, Known, LeaseState, Mark, Moving, Next,
    OpenBatch, Outcome, PageRange, Position, SourceIdentity,
};

/// Opens the next batch of a source queue over about `max_events` events, or returns the open one.
///
/// # Errors
/// [`DbError`], class Stop with SQLSTATE `TM003` when the source needs a rebase.
pub async fn next_move(session: &mut Session, cursor: Cursor<'_>, max_events: i32) -> Result<Next, DbError> {
    const OP: &str = "open the next batch";
    let (queue, consumer) = (cursor.queue.as_str(), cursor.consumer.as_str());
    let row = session
        .query_one(
            OP,
            "select o_state, o_batch, o_queue_id, o_sub_id, o_started, o_lag_ms from tidemill.next_move($1, $2, $3, $4)",
            &[text(&queue), text(&consumer), json(&Json(cursor.destination)), (&max_events, Type::INT4)],
        )
        .await?;
    let read = || -> Result<Next, tokio_postgres::Error> {
        Ok(match row.try_get("o_state")? {
            "batch" => Next::Batch(OpenBatch {
                batch: from_json(&row, "o_batch")?,
                queue_id: row.try_get("o_queue_id")?,
                sub_id: row.try_get("o_sub_id")?,
                started: row.try_get("o_started")?,
                lag_ms: row.try_get("o_lag_ms")?,
            }),
            "other_destination" => Next::OtherDestination,
            _ => Next::None,
        })
    };
    read().map_err(|error| DbError::decode(OP, &session.database(), error))
}

/// The name of [`read_move_page`]'s call. The first page of a range passes over all of it: about a microsecond and a half an
/// event.
pub const READ_MOVE_PAGE: &str = "read events";

/// Reads a page of an open batch: columns `o_last` and those of an event.
///
/// # Errors
/// [`DbError`].
pub async fn read_move_page(
    session: &mut Session,
    open: &OpenBatch,
    page: PageRange,
) -> Result<Vec<Row>, DbError> {
    let Batch { prev, cur, .. } = &open.batch;
    session
        .query(
            READ_MOVE_PAGE,
            "select * from tidemill.read_move_page($1, $2, $3, $4, $5, $6, $7)",
            &[
                (&open.queue_id, Type::INT4),
                (&open.sub_id, Type::INT4),
                (&prev.tick.0, Type::INT8),
                (&cur.tick.0, Type::INT8),
                (&page.after, Type::INT8),
                (&page.limit, Type::INT4),
                (&page.bytes, Type::INT8),
            ],
        )
        .await
}

/// Finishes a batch that the destination has committed; this very one or none.
///
/// # Errors
/// [`DbError`], class Stop with SQLSTATE `TM003` when the source needs a rebase.
pub async fn finish_moved(
    session: &mut Session,
    cursor: Cursor<'_>,
    batch: &Batch,
) -> Result<Outcome, DbError> {
    const OP: &str = "finish batch";
    let (queue, consumer) = (cursor.queue.as_str(), cursor.consumer.as_str());
    let row = session
        .query_one(
            OP,
            "select tidemill.finish_moved($1, $2, $3, $4)",
            &[text(&queue), text(&consumer), json(&Json(batch)), json(&Json(cursor.destination))],
        )
        .await?;
    outcome(&row).map_err(|error| DbError::decode(OP, &session.database(), error))
}

/// Sets the consumer to where the destination stands and gives the open batch up.
///
/// # Errors
/// [`DbError`], class Stop with SQLSTATE `TM003` when the source needs a rebase.
pub async fn reposition_move(
    session: &mut Session,
    cursor: Cursor<'_>,
    batch: &Batch,
    to: &Mark,
) -> Result<Outcome, DbError> {
    const OP: &str = "reposition consumer";
    let (queue, consumer) = (cursor.queue.as_str(), cursor.consumer.as_str());
    let row = session
        .query_one(
            OP,
            "select tidemill.reposition_move($1, $2, $3, $4, $5)",
            &[
                text(&queue),
                text(&consumer),
                json(&Json(batch)),
                json(&Json(cursor.destination)),
                json(&Json(to)),
            ],
        )
        .await?;
    outcome(&row).map_err(|error| DbError::decode(OP, &session.database(), error))
}

/// Every queue of a source, and whether the consumer has something to do there.
///
/// # Errors
/// [`DbError`].
pub async fn move_news(
    session: &mut Session,
    consumer: &ConsumerName,
) -> Result<Vec<(String, bool)>, DbError> {
    const OP: &str = "look for news";
    let consumer = consumer.as_str();
    let rows =
        session.query(OP, "select o_queue, o_news from tidemill.move_news($1)", &[text(&consumer)]).await?;
    let news: Result<_, _> = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect();
    news.map_err(|error| DbError::decode(OP, &session.database(), error))
}

/// Takes or renews the mover's lease.
///
/// # Errors
/// [`DbError`].
pub async fn hold_mover_lease(
    session: &mut Session,
    mover: &str,
    holder: Uuid,
    term_ms: i32,
) -> Result<LeaseState, DbError> {
    const OP: &str = "hold mover lease";
    let row = session
        .query_one(
            OP,
            "select o_held, o_epoch, o_holder, o_left_ms, o_destination from tidemill.hold_mover_lease($1, $2, $3)",
            &[text(&mover), (&holder, Type::UUID), (&term_ms, Type::INT4)],
        )
        .await?;
    let read = || -> Result<LeaseState, tokio_postgres::Error> {
        Ok(LeaseState {
            held: row.try_get("o_held")?,
            epoch: Epoch(row.try_get("o_epoch")?),
            holder: row.try_get("o_holder")?,
            left_ms: row.try_get("o_left_ms")?,
            destination: from_json(&row, "o_destination")?,
        })
    };
    read().map_err(|error| DbError::decode(OP, &session.database(), error))
}

/// Ends our term now; true if it was ours.
///
/// # Errors
/// [`DbError`].
pub async fn release_mover_lease(session: &mut Session, mover: &str, holder: Uuid) -> Result<bool, DbError> {
    const OP: &str = "release mover lease";
    let row = session
        .query_one(OP, "select tidemill.release_mover_lease($1, $2)", &[text(&mover), (&holder, Type::UUID)])
        .await?;
    row.try_get(0).map_err(|error| DbError::decode(OP, &session.database(), error))
}

/// What the destination has committed for each of these batches, in their order.
///
/// # Errors
/// [`DbError`].
pub async fn move_positions(tx: &mut Tx<'_>, moving: &[Moving<'_>]) -> Result<Vec<Known>, DbError> {
    const OP: &str = "read positions";
    let sources: Vec<&str> = moving.iter().map(|m| m.source).collect();
    let queues: Vec<&str> = moving.iter().map(|m| m.queue.as_str()).collect();
    let servers: Vec<i64> = moving.iter().map(|m| m.batch.source.system_identifier).collect();
    let databases: Vec<i64> = moving.iter().map(|m| m.batch.source.database_oid).collect();
    let to: Vec<&str> = moving.iter().map(|m| m.to.as_str()).collect();
    let rows = tx
        .query(
            OP,
            "select o_n, o_ready, o_source, o_identity, o_at, o_mover_epoch \
             from tidemill.move_positions($1, $2, $3, $4, $5)",
            &[
                (&sources, Type::TEXT_ARRAY),
                (&queues, Type::TEXT_ARRAY),
                (&servers, Type::INT8_ARRAY),
                (&databases, Type::INT8_ARRAY),
                (&to, Type::TEXT_ARRAY),
            ],
        )
        .await?;
    let mut known: Vec<Known> = moving.iter().map(|_| Known { position: None, ready: false }).collect();
    let mut read = || -> Result<(), tokio_postgres::Error> {
        for row in &rows {
            let n: i32 = row.try_get("o_n")?;
            let Some((known, asked)) = index(n).and_then(|n| Some((known.get_mut(n)?, moving.get(n)?)))
            else {
                continue;
            };
            known.ready = row.try_get("o_ready")?;
            let Some(source) = row.try_get::<_, Option<String>>("o_source")? else { continue };
            // The position under the asked name says more than one of the same database under another.
            if known.position.is_none() || source == asked.source {
                known.position = Some(Position {
                    source,
                    identity: from_json(row, "o_identity")?,
                    at: from_json(row, "o_at")?,
                    mover_epoch: Epoch(row.try_get("o_mover_epoch")?),
                });
            }
        }
        Ok(())
    };
    read().map_err(|error| DbError::decode(OP, &tx.database(), error))?;
    Ok(known)
}

/// Sets positions by compare-and-swap and returns the numbers of those that changed.
///
/// # Errors
/// [`DbError`], class Retry with SQLSTATE `TM001` when the lease is no longer ours.
pub async fn advance_positions(
    tx: &mut Tx<'_>,
    mover: &str,
    epoch: Epoch,
    moves: &[Advance<'_>],
) -> Result<Vec<i32>, DbError> {
    const OP: &str = "advance positions";
    let moves: Vec<serde_json::Value> = moves
        .iter()
        .map(|Advance { n, moving, open }| {
            serde_json::json!({
                "n": n, "source": moving.source, "queue": moving.queue, "to_queue": moving.to,
                "identity": moving.batch.source, "prev": moving.batch.prev, "cur": moving.batch.cur, "open": open,
            })
        })
        .collect();
    let rows = tx
        .query(
            OP,
            "select n from tidemill.advance_positions($1, $2, $3) n",
            &[text(&mover), (&epoch.0, Type::INT8), json(&Json(moves))],
        )
        .await?;
    let changed: Result<_, _> = rows.iter().map(|row| row.try_get(0)).collect();
    changed.map_err(|error| DbError::decode(OP, &tx.database(), error))
}

/// Where `count` events of a destination queue are copied to, and under which ids. Only after the
/// transaction has its id, as after [`advance_positions`].
///
/// # Errors
/// [`DbError`], class Reject when the queue does not exist or takes no events.
pub async fn move_target(tx: &mut Tx<'_>, queue: &QueueName, count: i32) -> Result<CopyTarget, DbError> {
    const OP: &str = "reserve event ids";
    let queue = queue.as_str();
    let row = tx
        .query_one(
            OP,
            "select o_queue_id, o_table, o_first, o_count from tidemill.move_target($1, $2)",
            &[text(&queue), (&count, Type::INT4)],
        )
        .await?;
    let read = || -> Result<CopyTarget, tokio_postgres::Error> {
        let first: Option<Vec<i64>> = row.try_get("o_first")?;
        let count: Option<Vec<i32>> = row.try_get("o_count")?;
        Ok(CopyTarget {
            queue_id: row.try_get("o_queue_id")?,
            table: row.try_get("o_table")?,
            runs: first.unwrap_or_default().into_iter().zip(count.unwrap_or_default()).collect(),
        })
    };
    read().map_err(|error| DbError::decode(OP, &tx.database(), error))
}

/// Forgets where events came from that were moved more than `keep_s` seconds ago, at most `limit` rows;
/// returns how many.
///
/// # Errors
/// [`DbError`].
pub async fn prune_moved(session: &mut Session, keep_s: i32, limit: i32) -> Result<i32, DbError> {
    const OP: &str = "prune moved";
    let row = session
        .query_one(OP, "select tidemill.prune_moved($1, $2)", &[(&keep_s, Type::INT4), (&limit, Type::INT4)])
        .await?;
    row.try_get(0).map_err(|error| DbError::decode(OP, &session.database(), error))
}

fn text<'a>(value: &'a &str) -> Param<'a> {
    (value, Type::TEXT)
}

fn json<T: Serialize + std::fmt::Debug + Sync>(value: &Json<T>) -> Param<'_> {
    (value, Type::JSONB)
}

fn from_json<T: DeserializeOwned>(row: &Row, column: &str) -> Result<T, tokio_postgres::Error> {
    row.try_get::<_, Json<T>>(column).map(|Json(value)| value)
}

fn index(n: i32) -> Option<usize> {
    usize::try_from(n).ok()?.checked_sub(1)
}

fn outcome(row: &Row) -> Result<Outcome, tokio_postgres::Error> {
    Ok(match row.try_get(0)? {
        "finished" | "repositioned" => Outcome::Done,
        "tick_gone" => Outcome::TickGone,
        "other_destination" => Outcome::OtherDestination,
        _ => Outcome::OtherBatch,
    })
}
