//! The step of one source: sends the batches of its queues to the writers and finishes what is committed.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemill_common::db::Session;
use tidemill_common::id::{ConsumerName, QueueName};
use tidemill_common::schema;
use tidemill_common::service::{Progress, Step, StepError, Wake};

use crate::error::MoveError;
use crate::lease::Lease;
use crate::line::{Line, Surroundings};
use crate::metrics::MoveMetrics;
use crate::routes::Routes;
use crate::source::{PageSize, Source};
use crate::write::Outbox;

/// The channel on which a ticker says "look".
const TICKS: &str = "tidemill_tick";

/// What all readers of a mover share.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Name of the consumer at each source.
    pub consumer: ConsumerName,
    /// Which queue goes where.
    pub routes: Arc<Routes>,
    /// How much is read at once.
    pub page: PageSize,
    /// The mover's lease.
    pub lease: Lease,
    /// Where parcels go.
    pub outbox: Outbox,
    /// Where events are counted.
    pub metrics: Arc<MoveMetrics>,
}

/// Reads one source. A source that is down, slow or stopped delays only itself.
#[derive(Debug)]
pub struct ReadSource {
    source: Source,
    with: Reading,
    wake: Wake,
    listening: bool,
    /// Connection whose schema was compared.
    checked: u64,
    lines: BTreeMap<QueueName, Line>,
}

impl ReadSource {
    /// A reader of one source; `wake` is what its loop is woken by.
    #[must_use]
    pub fn new(session: Session, with: Reading, wake: Wake) -> Self {
        let source = Source::new(session, with.consumer.clone(), with.page);
        Self { source, with, wake, listening: false, checked: 0, lines: BTreeMap::new() }
    }

    /// The schema is compared once per connection: another one may be another server.
    async fn connect(&mut self) -> Result<(), MoveError> {
        let session = &mut self.source.session;
        session.open("connect").await?;
        if self.checked != session.generation() {
            schema::check(session).await?;
            self.checked = session.generation();
        }
        if !self.listening {
            // Behind a pooler there is nothing to hear, and the pace does it alone.
            session.listen(TICKS, self.wake.clone()).await?;
            self.listening = true;
        }
        Ok(())
    }

    /// One cheap query tells where there is something to do. New queues appear, dropped ones go; those that
    /// stay keep what is on the way.
    async fn look(&mut self) -> Result<(), MoveError> {
        let news = self.source.news().await?;
        let mut old = std::mem::take(&mut self.lines);
        for (queue, news) in news {
            let Some(to) = self.with.routes.target(&queue) else { continue };
            let metrics = || self.with.metrics.line(self.source.name(), queue.as_str());
            let mut line = old.remove(&queue).unwrap_or_else(|| Line::new(queue.clone(), to, metrics()));
            line.see(news);
            self.lines.insert(queue, line);
        }
        Ok(())
    }

    async fn pass(&mut self) -> Result<Progress, MoveError> {
        let Some(held) = self.with.lease.held() else {
            // Standing by: whatever was on the way is decided by its writer and read again by whoever moves.
            self.lines.clear();
            return Ok(Progress::Idle);
        };
        self.connect().await?;
        self.look().await?;
        let mut around =
            Surroundings { source: &mut self.source, outbox: &self.with.outbox, wake: &self.wake };
        let (mut worked, mut failed) = (0, None);
        for line in self.lines.values_mut() {
            match line.pass(held, &mut around).await {
                Ok(did) => worked += usize::from(did),
                Err(error) => {
                    if let Err(error) = line.fail(around.source.name(), error) {
                        let lost = !around.source.session.is_open();
                        failed.get_or_insert(error);
                        if lost {
                            break;
                        }
                    }
                }
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(Progress::of(worked)),
        }
    }
}

impl Step for ReadSource {
    const NAME: &'static str = "read_source";

    async fn step(&mut self) -> Result<Progress, StepError> {
        let outcome = self.pass().await;
        if outcome.is_err() {
            self.lines.values().for_each(Line::grow_lag);
        }
        Ok(outcome?)
    }

    fn label(&self) -> String {
        self.source.name().to_string()
    }
}
