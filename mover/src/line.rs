//! One queue of one source: at most one batch on the way, so that its order is kept.

use std::sync::Arc;
use std::time::Duration;

use tidemill_common::db::Class;
use tidemill_common::id::QueueName;
use tidemill_common::queue::mover::{Next, OpenBatch, Outcome};
use tidemill_common::service::{Classified, Wake};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;

use crate::decide::{Reason, Side};
use crate::error::MoveError;
use crate::lease::Held;
use crate::metrics::LineMetrics;
use crate::parcel::{More, Parcel, Reply, Verdict};
use crate::source::Source;
use crate::write::Outbox;

/// How long a stopped queue rests before it is looked at again: a person may have mended it.
const REST: Duration = Duration::from_secs(5);

/// One queue of one source.
#[derive(Debug)]
pub(crate) struct Line {
    queue: QueueName,
    to: QueueName,
    state: State,
    stopped: Option<Stopped>,
    /// Whether the source was seen to have something to do.
    news: bool,
    metrics: LineMetrics,
    /// The lag as last seen, and when.
    lag: (f64, Instant),
}

#[derive(Debug)]
enum State {
    /// Nothing is on the way.
    Ready,
    /// A parcel is with a writer.
    Sent(Box<Sent>),
}

/// What is remembered of a parcel that is on the way.
#[derive(Debug)]
struct Sent {
    open: OpenBatch,
    held: Held,
    verdict: oneshot::Receiver<Verdict>,
    rest: Option<Rest>,
}

/// The further pages of the batch on the way.
#[derive(Debug)]
struct Rest {
    pages: mpsc::Sender<More>,
    after: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
struct Stopped {
    reason: Reason,
    until: Instant,
}

/// What a pass over one queue needs besides it.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) source: &'a mut Source,
    pub(crate) outbox: &'a Outbox,
    pub(crate) wake: &'a Wake,
}

impl Line {
    pub(crate) fn new(queue: QueueName, to: QueueName, metrics: LineMetrics) -> Self {
        Self {
            queue,
            to,
            state: State::Ready,
            stopped: None,
            news: false,
            metrics,
            lag: (0.0, Instant::now()),
        }
    }

    /// What the source's news say of this queue.
    pub(crate) fn see(&mut self, news: bool) {
        self.news = news;
        if !news {
            self.see_lag(0);
        }
    }

    /// One pass: what came back is settled, and the next batch is sent on its way. True if there was
    /// something to do.
    pub(crate) async fn pass(
        &mut self,
        held: Held,
        around: &mut Surroundings<'_>,
    ) -> Result<bool, MoveError> {
        if self.is_resting() {
            return Ok(false);
        }
        let mut worked = self.settle(around).await?;
        worked |= self.send_rest(around).await?;
        // A batch that was just finished is followed by the next in the same pass.
        if matches!(self.state, State::Ready) && !self.is_resting() {
            if self.news || worked {
                worked |= self.send_next(held, around).await?;
            } else {
                self.go_on(around.source.name());
            }
        }
        Ok(worked)
    }

    /// What an error of this queue alone means: whether the other queues of the source may go on.
    pub(crate) fn fail(&mut self, source: &str, error: MoveError) -> Result<(), MoveError> {
        self.state = State::Ready;
        let concerns_connection = matches!(&error, MoveError::Db(error) if error.is_connection());
        match error.class() {
            Class::Stop | Class::Reject if !concerns_connection => {
                let cause = tidemill_common::error_chain(&error);
                self.stop(source, Reason::SourceRefuses, &cause);
                Ok(())
            }
            Class::Stop | Class::Reject | Class::Retry => Err(error),
        }
    }

    /// The source cannot be asked: what is not moved gets older.
    pub(crate) fn grow_lag(&self) {
        let (lag, seen) = self.lag;
        self.metrics.lag.set(lag + seen.elapsed().as_secs_f64());
    }

    fn is_resting(&self) -> bool {
        self.stopped.is_some_and(|stopped| Instant::now() < stopped.until)
    }

    async fn settle(&mut self, around: &mut Surroundings<'_>) -> Result<bool, MoveError> {
        let State::Sent(sent) = &mut self.state else { return Ok(false) };
        let verdict = match sent.verdict.try_recv() {
            Ok(verdict) => verdict,
            Err(oneshot::error::TryRecvError::Empty) => return Ok(false),
            Err(oneshot::error::TryRecvError::Closed) => Verdict::Again,
        };
        let State::Sent(sent) = std::mem::replace(&mut self.state, State::Ready) else { return Ok(false) };
        let Sent { open, held, .. } = *sent;
        let source = Arc::clone(around.source.name());
        match verdict {
            Verdict::Committed(proof) => {
                self.metrics.events.inc_by(u64::try_from(proof.events()).unwrap_or(0));
                let outcome = around.source.finish(&self.queue, &proof).await?;
                self.after(&source, outcome);
                tracing::debug!(
                    source = &*source, queue.name = %self.queue, batch.id = open.batch.id.get(),
                    tick = open.batch.cur.tick.get(), events = proof.events(), "moved"
                );
            }
            Verdict::Reposition { to, behind } => {
                let (from_tick, to_tick) = (open.batch.prev.tick.get(), to.tick.get());
                match behind {
                    Side::Destination => tracing::warn!(
                        source = &*source, queue.name = %self.queue, from_tick, to_tick,
                        "destination went back: reading again what it lost"
                    ),
                    Side::Source => tracing::warn!(
                        source = &*source, queue.name = %self.queue, from_tick, to_tick,
                        "source went back: skipping what the destination has"
                    ),
                }
                let outcome =
                    around.source.reposition(&self.queue, held.destination, &open.batch, &to).await?;
                self.after(&source, outcome);
            }
            Verdict::Stop(Reason::NoDestinationQueue) => {
                let make = format!(
                    "run `tidemill queue create {} --database {}`",
                    self.to,
                    around.outbox.destination()
                );
                let why = format!("{}: {make}", Reason::NoDestinationQueue.sentence());
                self.stop(&source, Reason::NoDestinationQueue, &why);
            }
            Verdict::Stop(reason) => self.stop_for(&source, reason),
            Verdict::Refused(why) => self.stop(&source, Reason::Refused, &why),
            Verdict::Again => {}
        }
        Ok(true)
    }

    fn after(&mut self, source: &str, outcome: Outcome) {
        match outcome {
            Outcome::Done => self.go_on(source),
            // Another mover was faster, or the batch was given up: the source knows what is next.
            Outcome::OtherBatch => {}
            Outcome::OtherDestination => self.stop_for(source, Reason::OtherDestination),
            Outcome::TickGone => self.stop_for(source, Reason::TickGone),
        }
    }

    async fn send_next(&mut self, held: Held, around: &mut Surroundings<'_>) -> Result<bool, MoveError> {
        let open = match around.source.next(&self.queue, held.destination).await? {
            Next::None => {
                self.see_lag(0);
                self.go_on(around.source.name());
                return Ok(false);
            }
            Next::OtherDestination => {
                self.stop_for(&Arc::clone(around.source.name()), Reason::OtherDestination);
                return Ok(false);
            }
            Next::Batch(open) => open,
        };
        self.see_lag(open.lag_ms);
        // No room: the batch stays open at the source, and costs nothing there.
        let Some(room) = around.outbox.room().await else { return Ok(false) };
        let (page, last) = around.source.page(&open, None).await?;
        self.send(page, last, Sending { open, held, room }, around);
        Ok(true)
    }

    fn send(&mut self, first: crate::page::Page, last: bool, sending: Sending, around: &Surroundings<'_>) {
        let Sending { open, held, room } = sending;
        let (reply, verdict) = Reply::new(around.wake.clone());
        let after = first.last_id();
        let (pages, rest) = if last {
            (None, None)
        } else {
            let (pages, rest) = mpsc::channel(1);
            (Some(Rest { pages, after }), Some(rest))
        };
        let parcel = Parcel {
            source: Arc::clone(around.source.name()),
            queue: self.queue.clone(),
            to: self.to.clone(),
            open: open.clone(),
            first,
            rest,
            reply,
            _room: room,
        };
        around.outbox.send(parcel);
        self.state = State::Sent(Box::new(Sent { open, held, verdict, rest: pages }));
    }

    /// Reads a further page, if the writer has room for it.
    async fn send_rest(&mut self, around: &mut Surroundings<'_>) -> Result<bool, MoveError> {
        let State::Sent(sent) = &mut self.state else { return Ok(false) };
        let Sent { open, rest, .. } = &mut **sent;
        let Some(Rest { pages, after }) = rest else { return Ok(false) };
        let slot = match pages.clone().try_reserve_owned() {
            Ok(slot) => slot,
            Err(mpsc::error::TrySendError::Full(_)) => return Ok(false),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                *rest = None;
                return Ok(false);
            }
        };
        let (page, last) = around.source.page(open, *after).await?;
        *after = page.last_id().or(*after);
        slot.send(More { page, last });
        if last {
            *rest = None;
        }
        Ok(true)
    }

    fn see_lag(&mut self, lag_ms: i64) {
        // Milliseconds of any plausible age are exact in an f64.
        #[expect(clippy::cast_precision_loss, reason = "an age in milliseconds")]
        let seconds = lag_ms as f64 / 1000.0;
        self.lag = (seconds, Instant::now());
        self.metrics.lag.set(seconds);
    }

    fn stop_for(&mut self, source: &str, reason: Reason) {
        self.stop(source, reason, reason.sentence());
    }

    fn stop(&mut self, source: &str, reason: Reason, why: &str) {
        let before = self.stopped.replace(Stopped { reason, until: Instant::now() + REST });
        if before.map(|stopped| stopped.reason) != Some(reason) {
            self.metrics.set_stopped(Some(reason));
            tracing::error!(source, queue.name = %self.queue, reason = reason.label(), "queue is not moved: {why}");
        }
    }

    fn go_on(&mut self, source: &str) {
        if self.stopped.take().is_some() {
            self.metrics.set_stopped(None);
            tracing::info!(source, queue.name = %self.queue, "queue is moved again");
        }
    }
}

/// What a parcel is made of besides its events.
struct Sending {
    open: OpenBatch,
    held: Held,
    room: OwnedSemaphorePermit,
}
