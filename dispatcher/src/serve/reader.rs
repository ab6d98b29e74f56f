//! Reader: reads the log ahead of the low-water mark, range by range, in bounded pieces.

use tidemill_common::db::{DbError, Session};
use tidemill_common::id::TickId;
use tidemill_common::queue::dispatch::{self, EventRow};

use crate::engine::{Event, LogRow};

/// How far the log has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// Everything up to this tick has been read.
    pub(super) tick: TickId,
    /// The range being read: its end, and the last id read of it.
    partial: Option<(TickId, i64)>,
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

impl Position {
    pub(super) fn at(tick: TickId) -> Self {
        Self { tick, partial: None }
    }

    /// Reads on for at most `limit` rows; `None` when there is no later tick.
    pub(super) async fn read(
        self,
        session: &mut Session,
        (queue_id, sub_id): (i32, i32),
        limit: i32,
    ) -> Result<Option<Piece>, DbError> {
        let (to, after) = match self.partial {
            Some((to, after)) => (to, Some(after)),
            None => match dispatch::range(session, queue_id, self.tick, limit).await? {
                Some(to) => (to, None),
                None => return Ok(None),
            },
        };
        let rows = dispatch::events(session, (queue_id, sub_id), (self.tick, to), after, limit).await?;
        let complete = rows.len() < usize::try_from(limit).unwrap_or(usize::MAX);
        let position = match rows.last() {
            Some(last) if !complete => Self { tick: self.tick, partial: Some((to, last.id)) },
            _ => Self::at(to),
        };
        Ok(Some(Piece { to_tick: to.0, rows: rows.into_iter().map(row).collect(), complete, position }))
    }
}

fn row(event: EventRow) -> LogRow {
    let EventRow { id, time, owner, retry, kind, data, extra } = event;
    LogRow { job: id, inserted_at: time.into(), owner, retry, event: Event { kind, data, extra } }
}
