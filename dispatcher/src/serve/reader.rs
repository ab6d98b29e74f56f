//! Reader: reads the log ahead of the low-water mark, range by range, in bounded pieces.

use tidemill_common::db::{DbError, Session};
use tidemill_common::id::TickId;
use tidemill_common::queue::dispatch::{self, EventRow, MovedRun, RowMark};

use crate::engine::{Event, LogRow, Moved, Place};

/// How far the log has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// Everything up to this tick has been read.
    tick: TickId,
    /// The range being read.
    partial: Option<Range>,
}

/// What is between two ticks, some of it read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    to: TickId,
    /// The last row read of it.
    after: Option<RowMark>,
    /// Some events of the queue were moved there.
    has_origins: bool,
}

/// A piece of the log.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) to_tick: i64,
    pub(super) rows: Vec<LogRow>,
    /// Where they came from, those that were moved.
    pub(super) moved: Vec<Moved>,
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
        let Range { to, after, has_origins } = match self.partial {
            Some(partial) => partial,
            None => match dispatch::range(session, queue_id, self.tick, portion.rows).await? {
                Some((to, has_origins)) => Range { to, after: None, has_origins },
                None => return Ok(None),
            },
        };
        let limits = (portion.rows, portion.bytes);
        let (rows, mark) =
            dispatch::read_ahead(session, (queue_id, sub_id), (self.tick, to), after, limits, row).await?;
        // Below both limits nothing can be left (a row weighs more than its content); otherwise another read tells.
        let weight: usize = rows.iter().map(|row| row.event.weight()).sum();
        let short = rows.len() < usize::try_from(portion.rows).unwrap_or(usize::MAX)
            && i64::try_from(weight).is_ok_and(|weight| weight < portion.bytes);
        let complete = mark.is_none() || short;
        let position = match complete {
            true => Self::at(to),
            false => Self { tick: self.tick, partial: Some(Range { to, after: mark, has_origins }) },
        };
        let moved = if has_origins { origins(session, queue_id, &rows).await? } else { Vec::new() };
        Ok(Some(Piece { to_tick: to.0, rows, moved, complete, position }))
    }
}

/// Where these jobs came from, also those that were put again: these keep their ids.
async fn origins(session: &mut Session, queue_id: i32, rows: &[LogRow]) -> Result<Vec<Moved>, DbError> {
    let (from, to) = runs(rows.iter().map(|row| row.job).collect());
    let moved = dispatch::origins(session, queue_id, (&from, &to)).await?;
    let moved = moved.into_iter().map(|MovedRun { first, source, queue, ids }| Moved {
        first,
        place: Place { source, queue },
        events: ids,
    });
    Ok(moved.collect())
}

/// The first and the last ids of runs that hold all of these, and few others: to ask for a few more is cheaper than to
/// ask twice.
fn runs(mut ids: Vec<i64>) -> (Vec<i64>, Vec<i64>) {
    const GAP: i64 = 16;
    ids.sort_unstable();
    let (mut from, mut to): (Vec<i64>, Vec<i64>) = (Vec::new(), Vec::new());
    for id in ids {
        match to.last_mut() {
            Some(last) if id - *last <= GAP => *last = id,
            _ => {
                from.push(id);
                to.push(id);
            }
        }
    }
    (from, to)
}

fn row(event: EventRow) -> LogRow {
    let EventRow { id, txid, time, owner, retry, kind, data, extra } = event;
    LogRow { job: id, inserted_at: time.into(), txid, owner, retry, event: Event { kind, data, extra } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_become_runs() {
        assert_eq!(runs(Vec::new()), (vec![], vec![]));
        assert_eq!(runs(vec![3, 1, 2, 18, 35, 34]), (vec![1], vec![35]));
        assert_eq!(runs(vec![52, 1, 18, 35]), (vec![1, 18, 35, 52], vec![1, 18, 35, 52]));
        assert_eq!(runs((1..=5_000).rev().collect()), (vec![1], vec![5_000]));
    }
}
