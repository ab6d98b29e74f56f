//! What the mover and the databases say to each other.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::{BatchId, ConsumerName, Epoch, QueueName, TickId};

/// A place in a source's log. Tick ids and snapshots are issued again after a failover to a standby that
/// lagged; all three together are not.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mark {
    /// Number of the tick.
    pub tick: TickId,
    /// When it was cut: microseconds since 1970, the source's clock.
    pub time: i64,
    /// Its snapshot, in PostgreSQL's text form.
    pub snapshot: String,
}

/// Which database the ticks of a source belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SourceIdentity {
    /// Made by `initdb`.
    pub system_identifier: i64,
    /// `pg_database.oid`.
    pub database_oid: i64,
    /// Rises when the ticks are rebased.
    pub epoch: Epoch,
}

/// Which database a source is moved to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DestinationIdentity {
    /// Made by `initdb`.
    pub system_identifier: i64,
    /// `pg_database.oid`.
    pub database_oid: i64,
}

/// A batch that is open at a source, named by everything that makes it this batch and no other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// `pgq.subscription.sub_batch`.
    pub id: BatchId,
    /// Events visible here are in an earlier batch.
    pub prev: Mark,
    /// Events visible here and not in `prev` are in this batch.
    pub cur: Mark,
    /// The database.
    pub source: SourceIdentity,
}

/// What [`super::next_move`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing new.
    None,
    /// The queue is moved to another destination.
    OtherDestination,
    /// A batch is open.
    Batch(OpenBatch),
}

/// An open batch and what is needed to read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenBatch {
    /// The batch.
    pub batch: Batch,
    /// `pgq.queue.queue_id` at the source.
    pub queue_id: i32,
    /// `pgq.subscription.sub_id` at the source.
    pub sub_id: i32,
    /// Whether a batch was ever finished for this destination.
    pub started: bool,
    /// Age of the oldest tick that is not moved yet, in milliseconds.
    pub lag_ms: i64,
}

/// Answer of [`super::finish_moved`] and [`super::reposition_move`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Done,
    /// Another batch is open, or none; nothing was touched.
    OtherBatch,
    /// The queue is moved to another destination; nothing was touched.
    OtherDestination,
    /// The tick to set the consumer to is not there any more; nothing was touched.
    TickGone,
}

/// One queue of one source as the mover's consumer sees it.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a> {
    /// Queue at the source.
    pub queue: &'a QueueName,
    /// The mover's consumer.
    pub consumer: &'a ConsumerName,
    /// Where it is moved to.
    pub destination: DestinationIdentity,
}

/// Where a page begins and how large it may be.
#[derive(Debug, Clone, Copy)]
pub struct PageRange {
    /// Last source event id of the page before.
    pub after: Option<i64>,
    /// Events; at least one is read.
    pub limit: i32,
    /// Bytes of content; at least one event is read.
    pub bytes: i64,
}

/// The mover's lease, as the destination sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseState {
    /// Whether we hold it.
    pub held: bool,
    /// Of whoever holds it.
    pub epoch: Epoch,
    /// Who holds it.
    pub holder: Uuid,
    /// Until its term ends, in milliseconds.
    pub left_ms: i64,
    /// The database it is in.
    pub destination: DestinationIdentity,
}

/// What the destination has committed for one source queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Name of the source it was moved under.
    pub source: String,
    /// The source's identity then.
    pub identity: SourceIdentity,
    /// How far it has come.
    pub at: Mark,
    /// Lease epoch of the mover that wrote it.
    pub mover_epoch: Epoch,
}

/// What [`super::move_positions`] knows of one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The position, under the asked name rather than another one.
    pub position: Option<Position>,
    /// Whether the destination queue exists and takes events.
    pub ready: bool,
}

/// One source queue, its batch and its destination queue.
#[derive(Debug, Clone, Copy)]
pub struct Moving<'a> {
    /// Name of the source.
    pub source: &'a str,
    /// Queue at the source.
    pub queue: &'a QueueName,
    /// Queue at the destination.
    pub to: &'a QueueName,
    /// The batch.
    pub batch: &'a Batch,
}

/// A position to set by compare-and-swap.
#[derive(Debug, Clone, Copy)]
pub struct Advance<'a> {
    /// Number by which the answer names it.
    pub n: i32,
    /// Whose position.
    pub moving: Moving<'a>,
    /// No position was known: start one at the batch's first tick.
    pub open: bool,
}

/// Where events are copied to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyTarget {
    /// `pgq.queue.queue_id` at the destination.
    pub queue_id: i32,
    /// The event table, quoted; valid in this transaction only.
    pub table: String,
    /// Reserved ids: first and how many, rising.
    pub runs: Vec<(i64, i32)>,
}
