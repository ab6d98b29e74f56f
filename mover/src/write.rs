//! The steps of the destination: what several sources have ready goes into one transaction.

use std::sync::Arc;
use std::time::Duration;

use tidemill_common::db::{Class, Session};
use tidemill_common::service::{Classified as _, Progress, Step, StepError, Wake};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::destination::Destination;
use crate::error::MoveError;
use crate::lease::{Held, Lease};
use crate::parcel::{Parcel, Verdict};

/// How long a reader waits for room; then it lets its other work go on.
const ROOM_PATIENCE: Duration = Duration::from_millis(500);

/// Where readers put their parcels.
#[derive(Debug, Clone)]
pub struct Outbox {
    destination: Arc<str>,
    small: Lane,
    large: Lane,
    room: Arc<Semaphore>,
}

/// One writer's inbox and its wake-up.
#[derive(Debug, Clone)]
struct Lane {
    inbox: mpsc::UnboundedSender<Parcel>,
    wake: Wake,
}

/// Largest group of one transaction; a single parcel may be larger.
#[derive(Debug, Clone, Copy)]
pub struct GroupSize {
    /// Parcels.
    pub parcels: usize,
    /// Events.
    pub events: usize,
    /// Bytes of content.
    pub bytes: usize,
}

/// The two writers of a destination and the way to them: small parcels are gathered into groups; a batch
/// larger than a page is streamed alone, on a connection of its own, so that it holds up nobody.
#[derive(Debug)]
pub struct Writers {
    /// Moves groups of small parcels.
    pub small: WriteDestination,
    /// Moves one large batch at a time.
    pub large: WriteDestination,
    /// Wakes the first.
    pub small_wake: Wake,
    /// Wakes the second.
    pub large_wake: Wake,
    /// Where readers put their parcels.
    pub outbox: Outbox,
}

impl Writers {
    /// Writers on two sessions of one destination, with room for `room` parcels on the way in all.
    #[must_use]
    pub fn new(sessions: [Session; 2], lease: &Lease, group: GroupSize, room: usize) -> Self {
        let [first, second] = sessions;
        let destination = first.database();
        let (small_lane, small_inbox) = Lane::new();
        let (large_lane, large_inbox) = Lane::new();
        let alone = GroupSize { parcels: 1, ..group };
        Self {
            small: WriteDestination::new(
                Destination::new(first, lease.clone()),
                lease.clone(),
                small_inbox,
                group,
            ),
            large: WriteDestination::new(
                Destination::new(second, lease.clone()),
                lease.clone(),
                large_inbox,
                alone,
            ),
            small_wake: small_lane.wake.clone(),
            large_wake: large_lane.wake.clone(),
            outbox: Outbox {
                destination,
                small: small_lane,
                large: large_lane,
                room: Arc::new(Semaphore::new(room)),
            },
        }
    }
}

impl Lane {
    fn new() -> (Self, mpsc::UnboundedReceiver<Parcel>) {
        // Bounded by the room each parcel holds.
        let (inbox, receiver) = mpsc::unbounded_channel();
        (Self { inbox, wake: Wake::new() }, receiver)
    }
}

impl Outbox {
    /// Name of the destination database.
    pub(crate) fn destination(&self) -> &str {
        &self.destination
    }

    /// Room for one parcel, in the order of asking; none after a while.
    pub(crate) async fn room(&self) -> Option<OwnedSemaphorePermit> {
        let room = Arc::clone(&self.room).acquire_owned();
        tokio::time::timeout(ROOM_PATIENCE, room).await.ok()?.ok()
    }

    /// Hands a parcel over. Without a writer it is dropped, which its reader hears.
    pub(crate) fn send(&self, parcel: Parcel) {
        let lane = if parcel.rest.is_some() { &self.large } else { &self.small };
        if lane.inbox.send(parcel).is_ok() {
            lane.wake.wake();
        }
    }
}

/// Writes parcels into the destination, one transaction per pass.
#[derive(Debug)]
pub struct WriteDestination {
    destination: Destination,
    lease: Lease,
    inbox: mpsc::UnboundedReceiver<Parcel>,
    group: GroupSize,
    /// Dropped with the step, when its loop has ended.
    alive: Option<mpsc::Sender<()>>,
}

impl WriteDestination {
    /// Holds `alive` until its loop has ended.
    #[must_use]
    pub fn until(mut self, alive: mpsc::Sender<()>) -> Self {
        self.alive = Some(alive);
        self
    }

    fn new(
        destination: Destination,
        lease: Lease,
        inbox: mpsc::UnboundedReceiver<Parcel>,
        group: GroupSize,
    ) -> Self {
        Self { destination, lease, inbox, group, alive: None }
    }

    /// What is ready now, up to the size of a group. Nothing is waited for: what comes while this group
    /// commits goes into the next.
    fn gather(&mut self) -> Vec<Parcel> {
        let mut group = Vec::new();
        let (mut events, mut bytes) = (0, 0);
        while group.len() < self.group.parcels && events < self.group.events && bytes < self.group.bytes {
            let Ok(parcel) = self.inbox.try_recv() else { break };
            events += parcel.first.len();
            bytes += parcel.first.bytes();
            group.push(parcel);
        }
        group
    }

    async fn write(&mut self, held: Held, mut parcels: Vec<Parcel>) -> Result<(), MoveError> {
        match self.destination.move_group(held, &mut parcels).await {
            Ok(verdicts) => {
                parcels.into_iter().zip(verdicts).for_each(|(parcel, verdict)| parcel.reply.send(verdict));
                Ok(())
            }
            // Something in it is refused for good: halve the group until it is alone, so that the others go on.
            Err(error) if error.class() == Class::Reject => {
                let half = parcels.len() / 2;
                let second = parcels.split_off(half);
                if half == 0 {
                    let why = tidemill_common::error_chain(&error);
                    second.into_iter().for_each(|parcel| parcel.reply.send(Verdict::Refused(why.clone())));
                    return Ok(());
                }
                Box::pin(self.write(held, parcels)).await?;
                Box::pin(self.write(held, second)).await
            }
            Err(error) => Err(error),
        }
    }
}

impl Step for WriteDestination {
    const NAME: &'static str = "write_destination";

    async fn step(&mut self) -> Result<Progress, StepError> {
        let parcels = self.gather();
        let count = parcels.len();
        let Some(held) = self.lease.held() else {
            // Dropped, their readers hear of it; the batches stay open for whoever moves now.
            return Ok(Progress::Idle);
        };
        if count > 0 {
            self.write(held, parcels).await?;
        }
        Ok(Progress::of(count))
    }

    fn label(&self) -> String {
        self.destination.name().to_owned()
    }
}
