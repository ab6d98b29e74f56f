//! The destination's transaction: positions by compare-and-swap, then events, then commit.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tidemill_common::db::{Session, Tx};
use tidemill_common::failpoint;
use tidemill_common::id::QueueName;
use tidemill_common::queue::mover::{
    Advance, Batch, DestinationIdentity, Known, advance_positions, move_positions, move_target,
};

use crate::copy::Tuples;
use crate::decide::{Decision, Found, Reason, decide};
use crate::error::MoveError;
use crate::ids::{Ids, Run};
use crate::lease::{Held, Lease};
use crate::page::{COLUMNS, Page};
use crate::parcel::{More, Parcel, Verdict};

const ORIGIN: &str = "queue_id, first_id, source, queue, source_epoch, from_tick, to_tick, source_ids";
/// How long a transaction waits for the next page of a batch. Less than the server's
/// `idle_in_transaction_session_timeout`, as the session sets it.
const PAGE_PATIENCE: Duration = Duration::from_secs(8);
/// Pieces of COPY that are sent at once.
const PIECE_BYTES: usize = 256 * 1024;

/// Proof that a batch's events are committed in the destination. Only this module can make one; finishing
/// the batch at its source takes it.
#[derive(Debug)]
pub struct Committed {
    batch: Batch,
    destination: DestinationIdentity,
    events: usize,
}

impl Committed {
    /// The batch.
    #[must_use]
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// Where it is committed.
    #[must_use]
    pub fn destination(&self) -> DestinationIdentity {
        self.destination
    }

    /// How many events this commit brought; zero if they were there already.
    #[must_use]
    pub fn events(&self) -> usize {
        self.events
    }
}

/// The destination database.
#[derive(Debug)]
pub(crate) struct Destination {
    session: Session,
    lease: Lease,
}

/// Where a parcel stands while its group's transaction is open.
#[derive(Debug)]
enum Standing {
    /// Not part of the transaction; this is its verdict.
    Out(Verdict),
    /// Its position is set: its events must be copied.
    In { events: usize },
}

impl Destination {
    pub(crate) fn new(session: Session, lease: Lease) -> Self {
        Self { session, lease }
    }

    pub(crate) fn name(&self) -> &str {
        self.session.target().name()
    }

    /// Moves a group of parcels in one transaction and gives each its verdict, in their order.
    ///
    /// # Errors
    /// [`MoveError`]: no verdict is known then. After an ambiguous commit, too: the next attempt reads the
    /// position, and the row lock makes it wait for a commit that is still under way.
    pub(crate) async fn move_group(
        &mut self,
        held: Held,
        parcels: &mut [Parcel],
    ) -> Result<Vec<Verdict>, MoveError> {
        let mut tx = self.session.begin("move_batch").await?;
        let moving: Vec<_> = parcels.iter().map(Parcel::moving).collect();
        let known = move_positions(&mut tx, &moving).await?;
        let decisions: Vec<_> = parcels.iter().zip(&known).map(|(p, k)| decision(p, k, held)).collect();
        failpoint!("mover.decided", |why| Err(MoveError::Failpoint(why)));

        let changed = advance(&mut tx, &self.lease, held, parcels, &decisions).await?;
        failpoint!("mover.advanced", |why| Err(MoveError::Failpoint(why)));

        let mut standings: Vec<_> = decisions
            .into_iter()
            .enumerate()
            .zip(parcels.iter())
            .map(|((n, decision), parcel)| standing(decision, changed.contains(&number(n)), parcel, held))
            .collect();
        if !changed.is_empty() {
            copy_group(&mut tx, parcels, &mut standings).await?;
            failpoint!("mover.commit", |why| Err(MoveError::Failpoint(why)));
            tx.commit().await?;
            failpoint!("mover.committed", |why| Err(MoveError::Failpoint(why)));
        }
        // From here on every position set above is durable.
        Ok(standings
            .into_iter()
            .zip(parcels)
            .map(|(standing, parcel)| standing.verdict(parcel, held))
            .collect())
    }
}

impl Standing {
    fn verdict(self, parcel: &Parcel, held: Held) -> Verdict {
        match self {
            Self::Out(verdict) => verdict,
            Self::In { events } => Verdict::Committed(proof(parcel, held, events)),
        }
    }
}

fn proof(parcel: &Parcel, held: Held, events: usize) -> Committed {
    Committed { batch: parcel.open.batch.clone(), destination: held.destination, events }
}

fn decision(parcel: &Parcel, known: &Known, held: Held) -> Decision {
    let found = Found { source: &parcel.source, batch: &parcel.open.batch, started: parcel.open.started };
    match decide(found, known.position.as_ref(), held.epoch) {
        Decision::Move | Decision::Open if !known.ready => Decision::Stop(Reason::NoDestinationQueue),
        decision => decision,
    }
}

/// The compare-and-swap: the numbers of the parcels that are ours to copy.
async fn advance(
    tx: &mut Tx<'_>,
    lease: &Lease,
    held: Held,
    parcels: &[Parcel],
    decisions: &[Decision],
) -> Result<Vec<i32>, MoveError> {
    let mut moves = Vec::new();
    for (n, (parcel, decision)) in parcels.iter().zip(decisions).enumerate() {
        let open = match decision {
            Decision::Move => false,
            Decision::Open => true,
            Decision::AlreadyMoved | Decision::Reposition { .. } | Decision::Stop(_) => continue,
        };
        moves.push(Advance { n: number(n), moving: parcel.moving(), open });
    }
    if moves.is_empty() {
        return Ok(Vec::new());
    }
    Ok(advance_positions(tx, lease.name().as_str(), held.epoch, &moves).await?)
}

fn standing(decision: Decision, changed: bool, parcel: &Parcel, held: Held) -> Standing {
    match decision {
        Decision::Move | Decision::Open if changed => Standing::In { events: 0 },
        // Somebody else set the position meanwhile: look again.
        Decision::Move | Decision::Open => Standing::Out(Verdict::Again),
        // The position was read as committed, before this transaction wrote anything.
        Decision::AlreadyMoved => Standing::Out(Verdict::Committed(proof(parcel, held, 0))),
        Decision::Reposition { to, behind } => Standing::Out(Verdict::Reposition { to, behind }),
        Decision::Stop(reason) => Standing::Out(Verdict::Stop(reason)),
    }
}

/// Copies the events of all parcels whose position was set, one COPY per destination queue and page.
async fn copy_group(
    tx: &mut Tx<'_>,
    parcels: &mut [Parcel],
    standings: &mut [Standing],
) -> Result<(), MoveError> {
    let mut by_queue: BTreeMap<QueueName, Vec<(&Parcel, &Page)>> = BTreeMap::new();
    for (parcel, standing) in parcels.iter().zip(standings.iter_mut()) {
        if let Standing::In { events } = standing {
            *events = parcel.first.len();
            by_queue.entry(parcel.to.clone()).or_default().push((parcel, &parcel.first));
        }
    }
    for (queue, pages) in by_queue {
        copy_pages(tx, &queue, &pages).await?;
    }
    for (parcel, standing) in parcels.iter_mut().zip(standings) {
        if let Standing::In { events } = standing {
            *events += copy_rest(tx, parcel).await?;
        }
    }
    Ok(())
}

/// Copies the further pages of a batch that is larger than one, as they come.
async fn copy_rest(tx: &mut Tx<'_>, parcel: &mut Parcel) -> Result<usize, MoveError> {
    let Some(mut rest) = parcel.rest.take() else { return Ok(0) };
    // The first page is copied: its memory is free for the next.
    parcel.first = Page::default();
    let mut events = 0;
    loop {
        parcel.reply.wake();
        let Ok(Some(More { page, last })) = tokio::time::timeout(PAGE_PATIENCE, rest.recv()).await else {
            let (source_name, queue) = (std::sync::Arc::clone(&parcel.source), parcel.queue.clone());
            return Err(MoveError::BrokenOff { source_name, queue });
        };
        copy_pages(tx, &parcel.to, &[(parcel, &page)]).await?;
        failpoint!("mover.page", |why| Err(MoveError::Failpoint(why)));
        events += page.len();
        if last {
            return Ok(events);
        }
    }
}

/// Copies pages into one destination queue, and beside them where they came from.
async fn copy_pages(tx: &mut Tx<'_>, queue: &QueueName, pages: &[(&Parcel, &Page)]) -> Result<(), MoveError> {
    let events: usize = pages.iter().map(|(_, page)| page.len()).sum();
    if events == 0 {
        return Ok(());
    }
    // After the compare-and-swap, which took the transaction's id: a table read before that could be
    // rotated out under us.
    let target = move_target(tx, queue, number(events)).await?;
    let runs = target
        .runs
        .iter()
        .map(|(first, count)| Run { first: *first, count: usize::try_from(*count).unwrap_or(0) });
    let mut ids = Ids::new(runs.collect());

    let mut origins = Tuples::new();
    let mut copy = tx
        .copy_in("copy events", &format!("copy {} ({COLUMNS}) from stdin (format binary)", target.table))
        .await?;
    let mut tuples = Tuples::new();
    for (parcel, page) in pages {
        let mut done = 0;
        for run in ids.take(page.len()) {
            let range = done..done + run.count;
            origins.origin(target.queue_id, run.first, parcel, page.source_ids(range.clone()));
            for event in range {
                page.write(event, run.first + i64::from(number(event - done)), &mut tuples);
                if tuples.len() >= PIECE_BYTES {
                    copy.send(tuples.take()).await?;
                }
            }
            done += run.count;
        }
    }
    copy.send(tuples.finish()).await?;
    let copied = copy.finish().await?;
    if u64::try_from(events).ok() != Some(copied) {
        return Err(MoveError::Short { queue: queue.clone(), sent: events, copied });
    }
    failpoint!("mover.copied", |why| Err(MoveError::Failpoint(why)));
    write_origins(tx, origins.finish()).await
}

async fn write_origins(tx: &mut Tx<'_>, origins: Bytes) -> Result<(), MoveError> {
    let mut copy = tx
        .copy_in("record origins", &format!("copy tidemill.moved ({ORIGIN}) from stdin (format binary)"))
        .await?;
    copy.send(origins).await?;
    copy.finish().await?;
    Ok(())
}

impl Tuples {
    /// A row of `tidemill.moved`, columns as in [`ORIGIN`].
    fn origin(&mut self, queue_id: i32, first_id: i64, parcel: &Parcel, source_ids: &[i64]) {
        let batch = &parcel.open.batch;
        self.tuple(8);
        self.int4(queue_id);
        self.int8(first_id);
        self.text(&parcel.source);
        self.text(parcel.queue.as_str());
        self.int8(batch.source.epoch.get());
        self.int8(batch.prev.tick.get());
        self.int8(batch.cur.tick.get());
        self.int8_array(source_ids);
    }
}

/// A number within a group or a page, whose sizes are settings far below 2³¹.
fn number(n: usize) -> i32 {
    i32::try_from(n).expect("groups and pages are bounded by settings")
}
