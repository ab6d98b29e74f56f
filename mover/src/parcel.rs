//! What a reader hands to a writer, and what it gets back.

use std::sync::Arc;

use tidemill_common::id::QueueName;
use tidemill_common::queue::mover::{Mark, Moving, OpenBatch};
use tidemill_common::service::Wake;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::decide::{Reason, Side};
use crate::destination::Committed;
use crate::page::Page;

/// A batch of one source queue, with its events, on the way to the destination.
#[derive(Debug)]
pub(crate) struct Parcel {
    /// Name of the source.
    pub(crate) source: Arc<str>,
    /// Queue at the source.
    pub(crate) queue: QueueName,
    /// Queue at the destination.
    pub(crate) to: QueueName,
    /// The batch.
    pub(crate) open: OpenBatch,
    /// Its first page, or all of it.
    pub(crate) first: Page,
    /// Further pages of a batch that is larger than a page.
    pub(crate) rest: Option<mpsc::Receiver<More>>,
    /// Where the verdict goes.
    pub(crate) reply: Reply,
    /// The memory its pages take.
    pub(crate) _room: OwnedSemaphorePermit,
}

impl Parcel {
    /// The batch as the typed calls name it.
    pub(crate) fn moving(&self) -> Moving<'_> {
        Moving { source: &self.source, queue: &self.queue, to: &self.to, batch: &self.open.batch }
    }
}

/// A further page. The stream was cut off if it ends before `last`.
#[derive(Debug)]
pub(crate) struct More {
    pub(crate) page: Page,
    pub(crate) last: bool,
}

/// What became of a parcel.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The events are in the destination, durably: finish the batch.
    Committed(Committed),
    /// The destination stands elsewhere.
    Reposition { to: Mark, behind: Side },
    /// This queue is not to be moved.
    Stop(Reason),
    /// The destination refuses the content; why.
    Refused(String),
    /// Nothing is known, or somebody else was faster: begin again by asking the source.
    Again,
}

/// The way back to the reader. Dropped without an answer, it means [`Verdict::Again`].
#[derive(Debug)]
pub(crate) struct Reply {
    answer: Option<oneshot::Sender<Verdict>>,
    wake: Wake,
}

impl Reply {
    /// A way back, and where the answer comes out.
    pub(crate) fn new(wake: Wake) -> (Self, oneshot::Receiver<Verdict>) {
        let (answer, receiver) = oneshot::channel();
        (Self { answer: Some(answer), wake }, receiver)
    }

    /// Answers. A reader that no longer listens will ask the source again.
    pub(crate) fn send(mut self, verdict: Verdict) {
        if let Some(answer) = self.answer.take() {
            drop(answer.send(verdict));
        }
    }

    /// Tells the reader to look, as when there is room for a further page.
    pub(crate) fn wake(&self) {
        self.wake.wake();
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        // The answer first, so that whoever wakes finds it.
        self.answer = None;
        self.wake.wake();
    }
}
