//! Reader: reads the log ahead of the low-water mark, range by range, in bounded pieces.

use tidemill_common::db::{DbError, Session};
use tidemill_common::id::TickId;
use tidemill_common::queue::dispatch::{self, EventRow, RowMark};

use crate::engine::{Event, LogRow};

/// How far the log has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// Everything up to this tick has been read.
    tick: TickId,
    /// The range being read: its end, and the last row read of it.
    partial: Option<(TickId, Option<RowMark>)>,
}

/// A piece of the log.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) to_tick: i64,
    pub(super) rows: Vec<LogRow>,
    /// The range ends with this piece.
    pub(super) complete: bool,
    pub(super) position: Position,
}

/// How much one read may bring.
#[derive(Debug, Clone, Copy)]
pub(super) struct Portion {
    pub(super) rows: i32,
    pub(super) bytes: i64,
}

impl Position {
    pub(super) fn at(tick: TickId) -> Self {
        Self { tick, partial: None }
    }

    /// Reads on; `None` when there is no later tick.
    pub(super) async fn read(
        self,
        session: &mut Session,
        (queue_id, sub_id): (i32, i32),
        portion: Portion,
    ) -> Result<Option<Piece>, DbError> {
        let (to, after) = match self.partial {
            Some(partial) => partial,
            None => match dispatch::range(session, queue_id, self.tick, portion.rows).await? {
                Some(to) => (to, None),
                None => return Ok(None),
            },
        };
        let limits = (portion.rows, portion.bytes);
        let (rows, mark) =
            dispatch::read_ahead(session, (queue_id, sub_id), (self.tick, to), after, limits).await?;
        let rows: Vec<LogRow> = rows.into_iter().map(row).collect();
        // Below both limits nothing can be left (a row weighs more than its content); otherwise another read tells.
        let weight: usize = rows.iter().map(|row| row.event.weight()).sum();
        let short = rows.len() < usize::try_from(portion.rows).unwrap_or(usize::MAX)
            && i64::try_from(weight).is_ok_and(|weight| weight < portion.bytes);
        let complete = mark.is_none() || short;
        let position = match complete {
            true => Self::at(to),
            false => Self { tick: self.tick, partial: Some((to, mark)) },
        };
        Ok(Some(Piece { to_tick: to.0, rows, complete, position }))
    }
}

fn row(event: EventRow) -> LogRow {
    let EventRow { id, txid, time, owner, retry, kind, data, extra } = event;
    LogRow { job: id, inserted_at: time.into(), txid, owner, retry, event: Event { kind, data, extra } }
}
