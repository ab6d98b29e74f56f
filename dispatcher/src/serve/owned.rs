//! Owned: the engine of a queue this process owns, and the database work under way for it. Reading, writing and
//! renewing go on at the same time, each on a connection of its own; the engine only ever sees them done.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::time::Duration;

use tidemill_common::api::QueueLimits;
use tidemill_common::db::{Class, DbError, Session};
use tidemill_common::failpoint;
use tidemill_common::id::{Epoch, TickId};
use tidemill_common::queue::dispatch;
use tidemill_common::queue::work::{self, Written};
use tokio::time::{Instant, sleep_until};

use super::clock::DatabaseClock;
use super::rates::Rate;
use super::reader::{Piece, Portion, Position};
use super::trust::Trust;
use super::{Lost, Sessions};
use crate::command::{Command, Looked, Reply, Shown};
use crate::engine::record::LeaseKey;
use crate::engine::{Answered, ColdAnswers, Engine, Flush, LentLease, Paused, QueueSettings, RequestId};
use crate::metrics::Metrics;

type Work<T> = Pin<Box<dyn Future<Output = (Session, Result<T, DbError>)> + Send>>;

/// A queue this process owns.
pub(super) struct Owned {
    pub(super) queue_id: i32,
    pub(super) sub_id: i32,
    pub(super) epoch: Epoch,
    pub(super) engine: Engine,
    pub(super) clock: DatabaseClock,
    pub(super) trust: Trust,
    pub(super) term_ms: i32,
    pub(super) read_rows: i32,
    /// Room in the window below which nothing is read.
    least_rows: i32,
    rate: Rate,
    pub(super) position: Position,
    pub(super) replies: HashMap<RequestId, Reply<Answered>>,
    pub(super) sessions: Sessions,
    pub(super) metrics: Metrics,
    flush: Option<Work<Written>>,
    read: Option<Work<Option<Piece>>>,
    renewal: Option<(Instant, Work<()>)>,
    /// A look at the leases of the waiting room, instead of a read.
    survey: Option<Work<Surveyed>>,
    /// When to look for ticks again, and after how long the time after that.
    look_at: Instant,
    look_wait: Duration,
    leaving: bool,
    /// A stream's commit has no known end.
    doubted: bool,
}

/// The most that is read at once: the rows are in memory twice until they are in the window.
const PIECE_BYTES: usize = 16 << 20;
/// Between two looks for a new tick, when nothing is heard of any.
const LOOK: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

impl Owned {
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one owner, named where they are put together"
    )]
    pub(super) fn new(
        (queue_id, sub_id): (i32, i32),
        epoch: Epoch,
        engine: Engine,
        clock: DatabaseClock,
        trust: Trust,
        (term_ms, read_rows): (i32, i32),
        low_water: TickId,
        sessions: Sessions,
        metrics: Metrics,
    ) -> Self {
        Self {
            queue_id,
            sub_id,
            epoch,
            clock,
            trust,
            term_ms,
            read_rows,
            least_rows: least_rows(engine.window_limits().0, read_rows),
            rate: Rate::new(Instant::now()),
            engine,
            position: Position::at(low_water),
            replies: HashMap::new(),
            sessions,
            metrics,
            flush: None,
            read: None,
            renewal: None,
            survey: None,
            look_at: Instant::now(),
            look_wait: LOOK.0,
            leaving: false,
            doubted: false,
        }
    }

    /// An administrator may have changed the queue, or its window.
    pub(super) fn set(
        &mut self,
        settings: QueueSettings,
        window: (usize, usize),
        paused: Paused,
        limits: &QueueLimits,
    ) {
        self.engine.set(settings);
        self.engine.pause(paused);
        self.engine.set_limits(limits);
        self.engine.set_window(window);
        self.least_rows = least_rows(window.0, self.read_rows);
    }

    /// A new tick may be there.
    pub(super) fn look(&mut self) {
        self.look_at = Instant::now();
        self.look_wait = LOOK.0;
    }

    /// No more grants: those who wait go home, what is under way is finished.
    pub(super) fn leave(&mut self) {
        self.leaving = true;
        self.engine.close_polls();
    }

    /// Nothing is under way and nothing is left to write.
    pub(super) fn has_left(&mut self) -> bool {
        self.start();
        self.leaving && self.flush.is_none() && self.replies.is_empty()
    }

    /// Takes a request in.
    pub(super) fn take(&mut self, command: Command) {
        self.engine.advance(self.clock.now());
        match command {
            Command::Grab { request, mut grab, results, reply } => {
                if reply.is_closed() {
                    return;
                }
                if self.leaving {
                    // The results still count; jobs are for the successor to give.
                    grab.wait_ms = 0;
                    grab.max = 0;
                }
                self.replies.insert(request, reply);
                self.engine.grab(request, grab, &results);
            }
            Command::Results { request, results, reply } => {
                self.replies.insert(request, reply);
                self.engine.results(request, &results);
            }
            Command::Heartbeat { request, leases, reply } => {
                self.replies.insert(request, reply);
                self.engine.heartbeat(request, &leases);
            }
            Command::Lend { request, lease, reply } => {
                self.replies.insert(request, reply);
                self.engine.lend(request, Some(&lease));
            }
            Command::Cancel { request, target, code, reply } => {
                self.replies.insert(request, reply);
                self.engine.cancel(request, target, code);
            }
            Command::Pause { request, paused, reply } => {
                self.replies.insert(request, reply);
                self.engine.order_pause(request, paused);
            }
            Command::Streamed { lease, count } => self.engine.streamed(&lease, count),
            Command::Doubt => self.doubted = true,
            Command::HangUp { request } => {
                self.engine.hang_up(request);
                self.replies.remove(&request);
            }
            Command::Undelivered { jobs } => self.engine.undelivered(&jobs),
            Command::Look { job, reply } => {
                let (sighting, progress) = (self.engine.find(job), self.engine.progress(job));
                drop(reply.send(Looked { sighting, progress }));
            }
            Command::List { mut listing, reply } => {
                self.engine.list(&mut listing);
                drop(reply.send(listing));
            }
            Command::Holders { reply } => drop(reply.send(self.engine.holders())),
            Command::Show { reply } => {
                let rates = self.rate.now(Instant::now(), self.engine.tally());
                let (counts, window) = (self.engine.counts(), self.engine.window_limits());
                drop(reply.send(Shown { counts, rates, window }));
            }
            Command::Count { reply } => drop(reply.send(self.engine.counts())),
        }
    }

    /// Is something to be written, and nothing being written?
    pub(super) fn is_about_to_flush(&self) -> bool {
        self.flush.is_none() && self.engine.is_pending()
    }

    /// Starts whatever should be under way and is not.
    pub(super) fn start(&mut self) {
        if self.flush.is_none()
            && let Some(flush) = self.engine.take_flush()
        {
            self.flush = self.sessions.write.take().map(|s| write(s, self.queue_id, self.epoch, flush));
        }
        if self.reads_nothing() {
            self.start_survey();
        }
        if self.reads_nothing()
            && self.look_at <= Instant::now()
            && let Some(portion) = self.portion()
        {
            let (position, ids) = (self.position, (self.queue_id, self.sub_id));
            self.read = self.sessions.read.take().map(|mut session| -> Work<Option<Piece>> {
                Box::pin(async move {
                    let piece = position.read(&mut session, ids, portion).await;
                    (session, piece)
                })
            });
        }
        if self.renewal.is_none() && self.trust.renew_at() <= Instant::now() {
            let (queue_id, epoch, term_ms) = (self.queue_id, self.epoch, self.term_ms);
            let low_water = TickId(self.engine.low_water());
            self.renewal = self.sessions.control.take().map(|mut session| -> (Instant, Work<()>) {
                let work = Box::pin(async move {
                    failpoint!("dispatcher.before_renew");
                    let renewed = dispatch::renew(&mut session, queue_id, epoch, term_ms, low_water).await;
                    failpoint!("dispatcher.after_renew", |_| {
                        let unheard = DbError::unheard("renew", &session.database());
                        (session, Err(unheard))
                    });
                    (session, renewed)
                });
                (Instant::now(), work)
            });
        }
        self.deliver();
    }

    fn reads_nothing(&self) -> bool {
        self.read.is_none() && self.survey.is_none()
    }

    /// Looks at the leases of the waiting room, if limits want to know of them.
    fn start_survey(&mut self) {
        let queue_id = self.queue_id;
        if self.engine.wants_lent() {
            self.survey = self.sessions.read.take().map(|mut session| -> Work<Surveyed> {
                Box::pin(async move {
                    let leases = lent(&mut session, queue_id).await;
                    (session, leases.map(Surveyed::All))
                })
            });
        } else if let Some(asked) = self.engine.survey() {
            self.survey = self.sessions.read.take().map(|mut session| -> Work<Surveyed> {
                Box::pin(async move {
                    let jobs: Vec<i64> = asked.iter().map(|(job, _)| *job).collect();
                    let there = dispatch::still_lent(&mut session, queue_id, &jobs).await;
                    (session, there.map(|there| Surveyed::There(asked, there)))
                })
            });
        }
    }

    /// What the next read may bring. Nothing while the window has little room: each read has a price of its own.
    fn portion(&self) -> Option<Portion> {
        let (rows, bytes) = self.engine.room();
        let rows = i32::try_from(rows).unwrap_or(i32::MAX).min(self.read_rows);
        let enough = !self.leaving && rows >= self.least_rows && bytes > 0;
        enough.then(|| Portion { rows, bytes: i64::try_from(bytes.min(PIECE_BYTES)).unwrap_or(i64::MAX) })
    }

    /// Hands out the answers that may leave; jobs that nobody takes are given back.
    pub(super) fn deliver(&mut self) {
        for (request, answered) in self.engine.take_answers() {
            self.metrics.answered(&answered);
            let undelivered = match self.replies.remove(&request) {
                Some(reply) => reply.send(answered).err(),
                None => Some(answered),
            };
            if let Some(Answered::Grab { jobs, .. }) = undelivered
                && !jobs.is_empty()
            {
                self.engine.undelivered(&jobs);
            }
        }
    }

    /// Waits for the next thing that happens here, and takes it in. Cancel-safe: what is under way stays under way.
    ///
    /// # Errors
    /// [`Lost`] when this process must not act as owner any more.
    pub(super) async fn happen(&mut self) -> Result<(), Lost> {
        if self.doubted {
            return Err(Lost::Stream);
        }
        self.start();
        let wake_at = self.next_instant();
        tokio::select! {
            biased;
            (session, written) = pending(&mut self.flush) => {
                self.flush = None;
                self.sessions.write = Some(session);
                self.written(written)
            }
            (session, piece) = pending(&mut self.read) => {
                self.read = None;
                self.sessions.read = Some(session);
                self.read(piece)
            }
            (session, surveyed) = pending(&mut self.survey) => {
                self.survey = None;
                self.sessions.read = Some(session);
                self.surveyed(surveyed)
            }
            (session, renewed) = pending_renewal(&mut self.renewal) => {
                let asked = self.renewal.take().map_or_else(Instant::now, |(asked, _)| asked);
                self.sessions.control = Some(session);
                renewed.map_err(|error| Lost::from(error, "renew"))?;
                self.trust.renewed(asked);
                self.metrics.counts(&self.engine.counts(), self.clock.now());
                Ok(())
            }
            () = sleep_until(wake_at) => {
                if self.trust.has_ended() {
                    return Err(Lost::TermEnded);
                }
                self.engine.advance(self.clock.now());
                Ok(())
            }
        }
    }

    fn next_instant(&self) -> Instant {
        let mut at = self.trust.until();
        if self.renewal.is_none() {
            at = at.min(self.trust.renew_at());
        }
        if let Some(deadline) = self.engine.deadline() {
            at = at.min(self.clock.instant(deadline));
        }
        if self.reads_nothing() {
            if let Some(survey_at) = self.engine.survey_at() {
                at = at.min(self.clock.instant(survey_at));
            }
            if self.portion().is_some() {
                at = at.min(self.look_at);
            }
        }
        at
    }

    fn written(&mut self, written: Result<Written, DbError>) -> Result<(), Lost> {
        match written {
            Ok(Written { at, answers }) => {
                let at = at.into();
                self.clock = DatabaseClock::new(at);
                let answers = match answers {
                    Some(answers) => serde_json::from_value(answers).map_err(Lost::Answers)?,
                    None => ColdAnswers::default(),
                };
                self.engine.committed(at, answers);
                self.rate.note(Instant::now(), self.engine.tally());
                Ok(())
            }
            // Refused data was not written; anything else may have been.
            Err(error) if error.class() == Class::Reject && !error.outcome_unknown() => {
                let why = error.server_message().unwrap_or("the database refused the data").to_owned();
                tracing::warn!(error = %tidemill_common::error_chain(&error), "an item of a flush was refused");
                self.engine.refused(&why);
                Ok(())
            }
            Err(error) => Err(Lost::from(error, "write")),
        }
    }

    fn surveyed(&mut self, surveyed: Result<Surveyed, DbError>) -> Result<(), Lost> {
        match surveyed.map_err(|error| Lost::from(error, "look for leases"))? {
            Surveyed::All(leases) => self.engine.count_lent(leases),
            Surveyed::There(asked, there) => {
                let key = |(epoch, number)| LeaseKey { epoch, number };
                self.engine.surveyed(&asked, &there.into_iter().map(key).collect::<HashSet<_>>());
            }
        }
        Ok(())
    }

    fn read(&mut self, piece: Result<Option<Piece>, DbError>) -> Result<(), Lost> {
        match piece.map_err(|error| Lost::from(error, "read"))? {
            Some(piece) => {
                self.position = piece.position;
                self.engine.advance(self.clock.now());
                self.engine.learn(piece.to_tick, piece.moved);
                self.engine.load(piece.to_tick, piece.rows, piece.complete);
                self.rate.note(Instant::now(), self.engine.tally());
                self.look();
            }
            None => {
                self.engine.recovered();
                self.look_at = Instant::now() + self.look_wait;
                self.look_wait = (self.look_wait * 2).min(LOOK.1);
            }
        }
        Ok(())
    }
}

/// What a look at the leases of the waiting room found.
enum Surveyed {
    /// All of them.
    All(Vec<LentLease>),
    /// Those that were looked for, and those that are there: epochs and numbers.
    There(Vec<(i64, LeaseKey)>, Vec<(i64, i64)>),
}

/// The leases that live in the waiting room.
pub(super) async fn lent(session: &mut Session, queue_id: i32) -> Result<Vec<LentLease>, DbError> {
    let leases = dispatch::lent_leases(session, queue_id).await?;
    let lease = |dispatch::LentLease { job, epoch, number, kind, key }| LentLease {
        job,
        lease: LeaseKey { epoch, number },
        kind,
        key,
    };
    Ok(leases.into_iter().map(lease).collect())
}

/// Less room than this is not worth a read of its own: a quarter of the window, or what one read brings.
fn least_rows(window_jobs: usize, read_rows: i32) -> i32 {
    (i32::try_from(window_jobs).unwrap_or(i32::MAX) / 4).clamp(1, read_rows)
}

fn write(mut session: Session, queue_id: i32, epoch: Epoch, flush: Flush) -> Work<Written> {
    Box::pin(async move {
        failpoint!("dispatcher.before_flush");
        let Flush { seq, data, cold } = flush;
        let written =
            work::journal_write(&mut session, queue_id, epoch, seq, data.as_deref(), cold.as_deref()).await;
        failpoint!("dispatcher.after_flush", |_| {
            let unheard = DbError::unheard("write the journal", &session.database());
            (session, Err(unheard))
        });
        (session, written)
    })
}

/// The work under way; never, if there is none.
async fn pending<T>(work: &mut Option<Work<T>>) -> (Session, Result<T, DbError>) {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

async fn pending_renewal(renewal: &mut Option<(Instant, Work<()>)>) -> (Session, Result<(), DbError>) {
    match renewal {
        Some((_, work)) => work.await,
        None => std::future::pending().await,
    }
}
