//! What to do with a batch, given what the destination knows. Pure: the rules and nothing else.

use tidemill_common::id::Epoch;
use tidemill_common::queue::mover::{Batch, Mark, Position};

/// What becomes of a batch that a source has ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The destination stands at the batch's first tick: copy the events and advance.
    Move,
    /// The destination has never heard of this queue, and the source has never finished a batch for it:
    /// start a position at the batch's first tick, then as [`Decision::Move`].
    Open,
    /// The destination stands at the batch's last tick: the events are there, only finish at the source.
    AlreadyMoved,
    /// The destination stands elsewhere in the same log: set the source's consumer to that tick, if the
    /// source still has the very same one.
    Reposition {
        /// Where the destination stands.
        to: Mark,
        /// Which side is behind.
        behind: Side,
    },
    /// Nothing that the mover may mend: leave both sides alone and say why.
    Stop(Reason),
}

/// The side that went back in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The destination lost moved batches: they are read again.
    Destination,
    /// The source forgot that batches were finished: they are skipped.
    Source,
}

/// Why a queue is not moved. The closed set of the metric `tidemill_move_stopped`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The destination has a position of this queue in another server or database under this name.
    SourceIdentity,
    /// The source's ticks were rebased since the last batch.
    SourceEpoch,
    /// The destination knows this queue under another source name.
    SourceRenamed,
    /// The destination knows a tick of this number with another time or snapshot: the source went back in
    /// time and issued it again.
    TickReissued,
    /// The destination stands at a tick that the source no longer has.
    TickGone,
    /// The source has finished batches for this destination, which has no position any more.
    PositionLost,
    /// The source is moved to another destination.
    OtherDestination,
    /// A mover with a newer lease has written the position.
    NewerMover,
    /// The destination queue does not exist, or takes no events.
    NoDestinationQueue,
    /// The destination refuses the content of a batch.
    Refused,
    /// The source refuses to give a batch.
    SourceRefuses,
}

impl Reason {
    /// Every reason, for the metric's closed set.
    pub const ALL: [Self; 11] = [
        Self::SourceIdentity,
        Self::SourceEpoch,
        Self::SourceRenamed,
        Self::TickReissued,
        Self::TickGone,
        Self::PositionLost,
        Self::OtherDestination,
        Self::NewerMover,
        Self::NoDestinationQueue,
        Self::Refused,
        Self::SourceRefuses,
    ];

    /// The metric's label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::SourceIdentity => "source_identity",
            Self::SourceEpoch => "source_epoch",
            Self::SourceRenamed => "source_renamed",
            Self::TickReissued => "tick_reissued",
            Self::TickGone => "tick_gone",
            Self::PositionLost => "position_lost",
            Self::OtherDestination => "other_destination",
            Self::NewerMover => "newer_mover",
            Self::NoDestinationQueue => "no_destination_queue",
            Self::Refused => "refused",
            Self::SourceRefuses => "source_refuses",
        }
    }

    /// What happened and what a person can do, as a sentence.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::SourceIdentity => {
                "the database under this source name is not the one that was moved from so far: set the URL right, \
                 or give the new database a new name"
            }
            Self::SourceEpoch => {
                "the source's ticks were rebased since the last batch: compare source and destination, then set \
                 source_epoch in tidemill.mover_position"
            }
            Self::SourceRenamed => {
                "this database was moved under another source name: use that name, or change it in \
                 tidemill.mover_position"
            }
            Self::TickReissued => {
                "the source went back in time and made other ticks with the same numbers: compare source and \
                 destination, then set the position in tidemill.mover_position"
            }
            Self::TickGone => {
                "the destination stands at a tick that the source no longer has, so events may be missing: compare \
                 source and destination, then set the position in tidemill.mover_position"
            }
            Self::PositionLost => {
                "batches were finished for this destination, which knows nothing of them: it lost data, or its table \
                 tidemill.mover_position was emptied"
            }
            Self::OtherDestination => {
                "this queue is moved to another destination: a copy of it must not take its events; if it is meant \
                 to, delete the queue's row in the source's tidemill.moved_to"
            }
            Self::NewerMover => "a mover with a newer lease writes this position",
            Self::NoDestinationQueue => "the destination queue does not exist or takes no events",
            Self::Refused => "the destination refuses the content of the batch",
            Self::SourceRefuses => "the source refuses to give its next batch",
        }
    }
}

/// What a reader found at the source.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// Name of the source in the settings.
    pub source: &'a str,
    /// The open batch.
    pub batch: &'a Batch,
    /// Whether a batch was ever finished at the source for this destination.
    pub started: bool,
}

/// Decides what becomes of a batch.
///
/// `position` is what the destination has committed for this queue, read *after* the batch was taken from
/// the source: whatever was finished there before is in it, unless the destination went back in time.
/// `mover_epoch` is the epoch of our lease.
#[must_use]
pub fn decide(found: Found<'_>, position: Option<&Position>, mover_epoch: Epoch) -> Decision {
    let Found { source, batch, started } = found;
    let Some(known) = position else {
        return if started { Decision::Stop(Reason::PositionLost) } else { Decision::Open };
    };
    let same_database = known.identity.system_identifier == batch.source.system_identifier
        && known.identity.database_oid == batch.source.database_oid;
    if !same_database {
        return Decision::Stop(Reason::SourceIdentity);
    }
    if known.source != source {
        return Decision::Stop(Reason::SourceRenamed);
    }
    if known.identity.epoch != batch.source.epoch {
        return Decision::Stop(Reason::SourceEpoch);
    }
    if known.mover_epoch > mover_epoch {
        return Decision::Stop(Reason::NewerMover);
    }
    if known.at == batch.prev {
        return Decision::Move;
    }
    if known.at == batch.cur {
        return Decision::AlreadyMoved;
    }
    if known.at.tick == batch.prev.tick || known.at.tick == batch.cur.tick {
        return Decision::Stop(Reason::TickReissued);
    }
    let behind = if known.at.tick < batch.prev.tick { Side::Destination } else { Side::Source };
    Decision::Reposition { to: known.at.clone(), behind }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_common::id::{BatchId, TickId};
    use tidemill_common::queue::mover::SourceIdentity;

    const SOURCE: SourceIdentity =
        SourceIdentity { system_identifier: 7, database_oid: 16_384, epoch: Epoch(2) };

    fn mark(tick: i64) -> Mark {
        Mark { tick: TickId(tick), time: tick * 1_000, snapshot: format!("{tick}:{tick}:") }
    }

    fn batch(prev: i64, cur: i64) -> Batch {
        Batch { id: BatchId(1), prev: mark(prev), cur: mark(cur), source: SOURCE }
    }

    fn at(at: Mark) -> Position {
        Position { source: "a".to_owned(), identity: SOURCE, at, mover_epoch: Epoch(5) }
    }

    fn decided(batch: &Batch, position: &Position) -> Decision {
        decide(Found { source: "a", batch, started: true }, Some(position), Epoch(5))
    }

    #[test]
    fn equality_with_either_end_moves_or_finishes() {
        assert_eq!(decided(&batch(3, 6), &at(mark(3))), Decision::Move);
        assert_eq!(decided(&batch(3, 6), &at(mark(6))), Decision::AlreadyMoved);
    }

    #[test]
    fn a_queue_nobody_knows_is_opened_unless_it_was_known() {
        let batch = batch(3, 6);
        assert_eq!(
            decide(Found { source: "a", batch: &batch, started: false }, None, Epoch(5)),
            Decision::Open
        );
        assert_eq!(
            decide(Found { source: "a", batch: &batch, started: true }, None, Epoch(5)),
            Decision::Stop(Reason::PositionLost)
        );
    }

    #[test]
    fn elsewhere_in_the_log_repositions() {
        for (tick, behind) in
            [(1, Side::Destination), (2, Side::Destination), (4, Side::Source), (9, Side::Source)]
        {
            assert_eq!(
                decided(&batch(3, 6), &at(mark(tick))),
                Decision::Reposition { to: mark(tick), behind },
                "tick {tick}"
            );
        }
    }

    #[test]
    fn a_tick_issued_again_stops() {
        for tick in [3, 6] {
            let other_snapshot = Mark { snapshot: "99:99:".to_owned(), ..mark(tick) };
            let other_time = Mark { time: 1, ..mark(tick) };
            for other in [other_snapshot, other_time] {
                assert_eq!(decided(&batch(3, 6), &at(other)), Decision::Stop(Reason::TickReissued));
            }
        }
    }

    #[test]
    fn another_identity_stops_before_anything_else() {
        for (identity, reason) in [
            (SourceIdentity { system_identifier: 8, ..SOURCE }, Reason::SourceIdentity),
            (SourceIdentity { database_oid: 1, ..SOURCE }, Reason::SourceIdentity),
            (SourceIdentity { epoch: Epoch(1), ..SOURCE }, Reason::SourceEpoch),
            (SourceIdentity { epoch: Epoch(3), ..SOURCE }, Reason::SourceEpoch),
        ] {
            for tick in [1, 3, 4, 6, 9] {
                let position = Position { identity, ..at(mark(tick)) };
                assert_eq!(
                    decided(&batch(3, 6), &position),
                    Decision::Stop(reason),
                    "{identity:?} at {tick}"
                );
            }
        }
    }

    #[test]
    fn another_name_or_a_newer_mover_stops() {
        for tick in [1, 3, 4, 6, 9] {
            let renamed = Position { source: "b".to_owned(), ..at(mark(tick)) };
            assert_eq!(decided(&batch(3, 6), &renamed), Decision::Stop(Reason::SourceRenamed));
            let newer = Position { mover_epoch: Epoch(6), ..at(mark(tick)) };
            assert_eq!(decided(&batch(3, 6), &newer), Decision::Stop(Reason::NewerMover));
        }
    }

    /// Every combination of a small world: events are copied only from exactly where the destination stands,
    /// and finished without copying only when it stands exactly at the end.
    #[test]
    fn only_equality_moves_or_finishes() {
        let snapshots = ["10:10:", "20:20:"];
        let marks: Vec<Mark> = (0..5)
            .flat_map(|tick| snapshots.map(|s| Mark { tick: TickId(tick), time: 0, snapshot: s.to_owned() }))
            .collect();
        for prev in &marks {
            for cur in marks.iter().filter(|cur| cur.tick > prev.tick) {
                let batch = Batch { id: BatchId(1), prev: prev.clone(), cur: cur.clone(), source: SOURCE };
                for here in &marks {
                    let decision = decided(&batch, &at(here.clone()));
                    assert_eq!(decision == Decision::Move, here == prev);
                    assert_eq!(decision == Decision::AlreadyMoved, here == cur);
                    let same_number = here.tick == prev.tick || here.tick == cur.tick;
                    assert_eq!(
                        matches!(decision, Decision::Reposition { .. }),
                        !same_number,
                        "{here:?} {prev:?} {cur:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn reasons_have_one_label_each() {
        let labels: std::collections::HashSet<_> = Reason::ALL.iter().map(|r| r.label()).collect();
        assert_eq!(labels.len(), Reason::ALL.len());
    }
}
