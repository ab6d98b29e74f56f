//! Tick: every queue that has news.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemill_common::queue::tick::{self, Look, Ticked};
use tidemill_common::service::{Condition, Progress, Step, StepError};
use tokio::time::Instant;

use crate::cluster::{Clusters, Member, Server};
use crate::database::{Active, Database};
use crate::doorbell::{self, Doorbell};
use crate::errand::Errand;
use crate::metrics::Metrics;
use crate::pace::{Pace, jittered};
use crate::trouble::{Trouble, Unreplicated};

/// How often the ticks of all queues are read for the metrics; of those that are cut here the time is known.
const STATUS_EVERY: Duration = Duration::from_secs(15);
/// Nobody sleeps longer than this without a look, whatever is believed about the server and about time.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// A standby leaves so long to the ticker that served last before it takes its place.
const GRACE: Duration = Duration::from_millis(500);

/// Times of a tick step.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Shortest time between two passes.
    pub min: Duration,
    /// Longest time between two looks while transactions end on the server.
    pub max: Duration,
    /// Shortest time between two attempts to maintain.
    pub maintain: Duration,
}

/// What a look that found nothing saw was not what the watch had read last: mostly it was newer.
#[derive(Debug)]
struct Doubt {
    visible: i64,
    /// When the next look is meant to be. Who comes before was woken.
    from: Instant,
    /// When something is due.
    until: Instant,
}

impl Doubt {
    /// If the watch has read the same since, another look would find nothing again. Returns until when to sleep.
    fn resolve(self, member: &Member, now: Instant) -> Option<Duration> {
        let Self { visible, from, until } = self;
        (from <= now && now < until && member.sleep(visible)).then(|| until - now)
    }
}

/// Looks whether there is anything to do, and if so, takes the term and ticks all queues of a database in one call.
/// While events come, another pass follows after the shortest interval, without a look; then the waits grow; then the
/// database sleeps until a transaction ends on its server, something is due, or somebody rings.
#[derive(Debug)]
pub struct Tick {
    database: Arc<Database>,
    clusters: Arc<Clusters>,
    metrics: Metrics,
    ready: Condition,
    pace: Pace,
    promote: Errand,
    rotate: Errand,
    member: Option<Member>,
    looked: Option<Instant>,
    doubt: Option<Doubt>,
    doorbell: Doorbell,
    /// When the next pass is meant to be. What comes before was woken.
    next: Option<Instant>,
    /// When an idle queue is due for a tick: until then, every tick is of one with news.
    idle_until: Option<Instant>,
    status_read: Option<Instant>,
    /// Since when there has been something to do that another ticker should have done.
    waiting_since: Option<Instant>,
    /// Queues that could not be ticked, and why: each is logged when it begins and when it changes.
    failing: BTreeMap<String, String>,
}

impl Tick {
    /// The step for one database. `ready` is met when the database has answered well once.
    #[must_use]
    pub fn new(
        database: Arc<Database>,
        clusters: Arc<Clusters>,
        metrics: Metrics,
        ready: Condition,
        timing: Timing,
    ) -> Self {
        let (promote, rotate) = (database.wakes().promote.clone(), database.wakes().rotate.clone());
        let Timing { min, max, maintain } = timing;
        Self {
            database,
            clusters,
            metrics,
            ready,
            pace: Pace::new(min, max),
            promote: Errand::new(promote, Duration::from_millis(20), Duration::from_secs(1)),
            rotate: Errand::new(rotate, maintain, maintain * 8),
            member: None,
            looked: None,
            doubt: None,
            doorbell: Doorbell::new(min),
            next: None,
            idle_until: None,
            status_read: None,
            waiting_since: None,
            failing: BTreeMap::new(),
        }
    }

    async fn turn(&mut self) -> Result<Progress, StepError> {
        let database = Arc::clone(&self.database);
        if !database.confirm().await? {
            return Err(StepError::retry(Unreplicated));
        }
        let now = Instant::now();
        let woken = self.next.take().is_some_and(|next| now < next);
        if let Some(left) = self.doubt.take().and_then(|doubt| doubt.resolve(self.member.as_ref()?, now)) {
            return Ok(Progress::Rest(left));
        }
        let is_due = self.idle_until.is_some_and(|until| now >= until) && database.is_serving();
        let has_looked = self.looked.is_some_and(|looked| looked.elapsed() < self.pace.longest());
        // With traffic, and when idle queues are due, a pass is the look: it costs no more. But while producers ring,
        // who was not woken only looks: that takes nothing back.
        let looks =
            !is_due && (!self.pace.is_busy() || !has_looked || self.doorbell.is_announced() && !woken);
        if looks && let Some(progress) = self.look(&database).await? {
            return Ok(progress);
        }
        let passed = self.pass(&database, woken).await?;
        if self.doorbell.asleep().is_zero() || !database.is_serving() {
            return Ok(passed);
        }
        // Before it sleeps: what comes until that is announced is found by this look, and what comes later rings.
        let looked = self.look(&database).await?;
        if looked.is_none() {
            database.wakes().tick.wake();
        }
        Ok(looked.filter(|_| matches!(passed, Progress::Rest(_))).unwrap_or(passed))
    }

    /// Looks; `None`: there is something to tick.
    async fn look(&mut self, database: &Database) -> Result<Option<Progress>, StepError> {
        let asleep = self.doorbell.asleep();
        let (look, server) = database.look(asleep).await?;
        let now = Instant::now();
        self.looked = Some(now);
        self.idle_until = look.tick_in.map(|wait| now + wait);
        self.ready.met();
        self.join(server);
        self.doorbell.looked(database, &look, asleep).await?;
        if let Some(wait) = self.stand_by(&look) {
            return Ok(Some(wait));
        }
        if self.rotate.is_due(look.maintain_in) {
            self.rotate.ask();
        }
        let tick_is_due = look.news || look.tick_in.is_some_and(|wait| wait.is_zero());
        if self.promote.is_due(look.promote_in) {
            if database.hold().await?.is_none() {
                return Ok(Some(self.turned_away()));
            }
            self.promote.ask();
        }
        Ok((!tick_is_due).then(|| self.rest(&look)))
    }

    async fn pass(&mut self, database: &Database, woken: bool) -> Result<Progress, StepError> {
        let begun = Instant::now();
        let slept = self.doorbell.awake();
        let idle = self.idle_until.take_if(|until| begun >= *until).is_some();
        let Some(mut active) = database.hold().await? else { return Ok(self.turned_away()) };
        let Active { holder, epoch, .. } = active;
        let pass = tick::pass(active.session(), holder, epoch).await;
        active.remember(&pass);
        let ticked = match pass {
            Ok(ticked) => ticked,
            Err(error) => {
                active.over(error)?;
                return Ok(Progress::Rest(self.pace.wait()));
            }
        };
        self.metrics.passed(database.name(), begun.elapsed());
        let all = idle && self.metrics.knows(database.name(), ticked.len());
        if self.status_read.is_none_or(|read| read.elapsed() >= STATUS_EVERY) && !ticked.is_empty() && !all {
            let status = tick::status(active.session()).await?;
            self.metrics.ages(database.name(), &status);
            self.status_read = Some(Instant::now());
        }
        let unreplicated = active.is_unreplicated();
        drop(active);
        let (ticks, events) = self.note(&ticked);
        self.doorbell.passed(events > 0, slept, woken);
        if unreplicated {
            // It is visible already. What can still be had: it is said, and nothing is ticked after it before the
            // standby has both.
            self.metrics.unreplicated(database.name());
            return Err(StepError::retry(Unreplicated));
        }
        // Ticks of idle queues are no traffic: the pace goes on growing. Those of transactions that ended late are.
        if events == 0 && (ticks == 0 || idle) {
            return Ok(Progress::Rest(jittered(self.pace.wait())));
        }
        self.pace.event();
        Ok(Progress::Worked(u32::try_from(events).unwrap_or(u32::MAX).max(1)))
    }

    fn join(&mut self, server: Server) {
        if self.member.as_ref().is_none_or(|member| *member.server() != server) {
            // Leaves before it joins.
            self.member = None;
            let database = Arc::clone(&self.database);
            self.member = Some(self.clusters.join(server, database));
        }
    }

    /// How long to leave the work to another ticker; `None`: it is this one's turn.
    fn stand_by(&mut self, look: &Look) -> Option<Progress> {
        if self.database.is_serving() {
            self.waiting_since = None;
            return None;
        }
        let due = |wait: Option<Duration>| wait.is_some_and(|wait| wait.is_zero());
        if !look.news && !due(look.tick_in) && !due(look.promote_in) {
            self.waiting_since = None;
            self.metrics.stands_by(self.database.name());
            return Some(self.rest(look));
        }
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let grace = GRACE.min(self.database.term() / 5).saturating_sub(since.elapsed());
        let wait = look.term.max(grace).min(self.pace.longest());
        if wait.is_zero() {
            return None;
        }
        self.metrics.stands_by(self.database.name());
        Some(Progress::Rest(wait))
    }

    /// Another ticker was faster.
    fn turned_away(&mut self) -> Progress {
        self.waiting_since = None;
        self.metrics.stands_by(self.database.name());
        Progress::Rest(self.pace.longest())
    }

    /// Until the next look, after one that found nothing to do now.
    fn rest(&mut self, look: &Look) -> Progress {
        let dues = [look.tick_in, self.promote.next(look.promote_in), self.rotate.next(look.maintain_in)];
        let longest = if self.doorbell.is_announced() { doorbell::RENEW } else { LONGEST_SLEEP };
        let due = dues.into_iter().flatten().min().unwrap_or(longest).min(longest);
        let may_sleep = self.pace.may_sleep();
        if may_sleep && self.member.as_ref().is_some_and(|member| member.sleep(look.visible)) {
            return Progress::Rest(due);
        }
        let (now, wait) = (Instant::now(), jittered(self.pace.wait()).min(due));
        self.doubt = may_sleep.then(|| Doubt { visible: look.visible, from: now + wait, until: now + due });
        Progress::Rest(wait)
    }

    /// What a pass did, for metrics and logs. Returns how many ticks it cut, and how many new events it found.
    fn note(&mut self, ticked: &[Ticked]) -> (usize, u64) {
        let (mut ticks, mut total) = (0, 0);
        let mut failing = BTreeMap::new();
        for one in ticked {
            match one {
                Ticked::Cut { queue, tick, new_events } => {
                    ticks += 1;
                    total += new_events;
                    self.metrics.ticked(self.database.name(), queue, *new_events);
                    tracing::debug!(
                        database.name = self.database.name(),
                        queue.name = queue,
                        tick.id = tick.0,
                        new_events,
                        "ticked"
                    );
                }
                Ticked::Failed { queue, problem } => {
                    self.metrics.failed(self.database.name());
                    if self.failing.get(queue) != Some(problem) {
                        tracing::warn!(
                            database.name = self.database.name(),
                            queue.name = queue,
                            problem,
                            "queue could not be ticked"
                        );
                    }
                    failing.insert(queue.clone(), problem.clone());
                }
            }
        }
        self.failing = failing;
        (ticks, total)
    }
}

impl Step for Tick {
    const NAME: &'static str = "tick";

    async fn step(&mut self) -> Result<Progress, StepError> {
        let begun = Instant::now();
        let turn = self.turn().await;
        self.next = match &turn {
            Ok(Progress::Rest(wait)) => Some(Instant::now() + *wait),
            Ok(_) => Some(begun + self.pace.shortest()),
            Err(_) => None,
        };
        if turn.is_err() {
            self.doorbell.forget();
            // Nothing is known any more about what was seen before.
            self.looked = None;
            self.doubt = None;
            self.idle_until = None;
        }
        self.metrics.trouble(self.database.name(), turn.as_ref().err().map(Trouble::of));
        turn
    }

    fn label(&self) -> String {
        self.database.name().to_owned()
    }
}
