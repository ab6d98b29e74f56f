//! One source database: short calls, none of them inside a transaction.

use std::sync::Arc;

use tidemill_common::db::{DbError, Session};
use tidemill_common::failpoint;
use tidemill_common::id::{ConsumerName, QueueName};
use tidemill_common::queue::mover::{
    Batch, Cursor, DestinationIdentity, Mark, Next, OpenBatch, Outcome, PageRange, finish_moved, move_news,
    next_move, read_move_page, reposition_move,
};

use crate::destination::Committed;
use crate::error::MoveError;
use crate::page::Page;

/// How much is read at once.
#[derive(Debug, Clone, Copy)]
pub struct PageSize {
    /// Events.
    pub events: i32,
    /// Bytes of content.
    pub bytes: i64,
}

/// A source database.
#[derive(Debug)]
pub(crate) struct Source {
    name: Arc<str>,
    pub(crate) session: Session,
    consumer: ConsumerName,
    page: PageSize,
}

impl Source {
    pub(crate) fn new(session: Session, consumer: ConsumerName, page: PageSize) -> Self {
        Self { name: session.database(), session, consumer, page }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The queues that are there now, and whether there is something to do; names that are not ours are left out.
    pub(crate) async fn news(&mut self) -> Result<Vec<(QueueName, bool)>, DbError> {
        let news = move_news(&mut self.session, &self.consumer).await?;
        Ok(news.into_iter().filter_map(|(name, news)| Some((name.parse().ok()?, news))).collect())
    }

    /// The open batch of a queue, or the next one.
    pub(crate) async fn next(
        &mut self,
        queue: &QueueName,
        to: DestinationIdentity,
    ) -> Result<Next, MoveError> {
        let cursor = Cursor { queue, consumer: &self.consumer, destination: to };
        let next = next_move(&mut self.session, cursor, self.page.events).await?;
        failpoint!("mover.taken", |why| Err(MoveError::Failpoint(why)));
        Ok(next)
    }

    /// A page of a batch, after a source id or from the start; true if the batch ends with it.
    pub(crate) async fn page(
        &mut self,
        open: &OpenBatch,
        after: Option<i64>,
    ) -> Result<(Page, bool), DbError> {
        let range = PageRange { after, limit: self.page.events, bytes: self.page.bytes };
        let rows = read_move_page(&mut self.session, open, range).await?;
        Page::from_rows(&rows)
            .map_err(|error| DbError::decode("read events", &self.session.database(), error))
    }

    /// Finishes a batch. Only after the destination's commit: the proof is nowhere else to be had.
    pub(crate) async fn finish(
        &mut self,
        queue: &QueueName,
        proof: &Committed,
    ) -> Result<Outcome, MoveError> {
        failpoint!("mover.finish", |why| Err(MoveError::Failpoint(why)));
        let cursor = Cursor { queue, consumer: &self.consumer, destination: proof.destination() };
        let outcome = finish_moved(&mut self.session, cursor, proof.batch()).await?;
        failpoint!("mover.finished", |why| Err(MoveError::Failpoint(why)));
        Ok(outcome)
    }

    /// Sets the consumer to where the destination stands.
    pub(crate) async fn reposition(
        &mut self,
        queue: &QueueName,
        destination: DestinationIdentity,
        batch: &Batch,
        to: &Mark,
    ) -> Result<Outcome, MoveError> {
        failpoint!("mover.reposition", |why| Err(MoveError::Failpoint(why)));
        let cursor = Cursor { queue, consumer: &self.consumer, destination };
        let outcome = reposition_move(&mut self.session, cursor, batch, to).await?;
        failpoint!("mover.repositioned", |why| Err(MoveError::Failpoint(why)));
        Ok(outcome)
    }
}
