//! One source database: short calls, none of them inside a transaction.

use std::sync::Arc;
use std::time::Duration;

use tidemill_common::db::{DbCause, DbError, Session};
use tidemill_common::failpoint;
use tidemill_common::id::{ConsumerName, QueueName};
use tidemill_common::queue::mover::{
    Batch, Cursor, DestinationIdentity, Mark, Next, OpenBatch, Outcome, PageRange, READ_MOVE_PAGE,
    finish_moved, move_news, next_move, read_move_page, reposition_move,
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

/// How long a page may take, first and at the most. Nearly all take milliseconds, but the first page of a batch passes over
/// all of it, and a single transaction may have made tens of millions of events. A source that hangs is still noticed
/// after the first of these.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(640));

/// A source database.
#[derive(Debug)]
pub(crate) struct Source {
    name: Arc<str>,
    pub(crate) session: Session,
    consumer: ConsumerName,
    page: PageSize,
    /// How long the next page may take: after one that took too long, twice as long.
    patience: Duration,
}

impl Source {
    pub(crate) fn new(session: Session, consumer: ConsumerName, page: PageSize) -> Self {
        Self { name: session.database(), session, consumer, page, patience: PATIENCE.0 }
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
        self.session.allow(READ_MOVE_PAGE, self.patience);
        let read = read_move_page(&mut self.session, open, range).await;
        self.patience = match &read {
            Err(error) if matches!(error.cause(), DbCause::Deadline(_)) => {
                (self.patience * 2).min(PATIENCE.1)
            }
            _ => PATIENCE.0,
        };
        Page::from_rows(&read?)
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

#[cfg(test)]
mod tests {
    use tidemill_common::id::{BatchId, Epoch, TickId};
    use tidemill_common::queue::mover::SourceIdentity;
    use tidemill_common::testing::Cluster;

    use super::*;

    #[tokio::test]
    async fn a_page_that_took_too_long_gets_more_time_until_it_is_read() {
        let db = Cluster::shared().database().await;
        let slow = "drop function tidemill.read_move_page;
            create function tidemill.read_move_page(int4, int4, int8, int8, int8, int4, int8, out o_last bool,
                out ev_id int8, out ev_time timestamptz, out ev_type text, out ev_data text, out ev_extra1 text,
                out ev_extra2 text, out ev_extra3 text, out ev_extra4 text)
            returns setof record language plpgsql as $$ begin perform pg_sleep(1); end $$";
        db.client().await.batch_execute(slow).await.unwrap();
        let page = PageSize { events: 10, bytes: 1000 };
        let mut source = Source::new(db.session("test"), "mover".parse().unwrap(), page);
        let mark = Mark { tick: TickId(1), time: 0, snapshot: "1:1:".to_owned() };
        let identity = SourceIdentity { system_identifier: 1, database_oid: 1, epoch: Epoch(1) };
        let batch = Batch { id: BatchId(1), prev: mark.clone(), cur: mark, source: identity };
        let open = OpenBatch { batch, queue_id: 1, sub_id: 1, started: true, lag_ms: 0 };

        source.patience = Duration::from_millis(400);
        let error = source.page(&open, None).await.unwrap_err();
        assert!(matches!(error.cause(), DbCause::Deadline(_)), "{error:?}");
        assert_eq!(source.patience, Duration::from_millis(800));
        while source.page(&open, None).await.is_err() {
            assert!(source.patience <= PATIENCE.1);
        }
        assert_eq!(source.patience, PATIENCE.0, "the next one is an ordinary page");
    }
}
