//! Tick: every queue that has news.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemill_common::queue::tick::{self, Ticked};
use tidemill_common::service::{Condition, Progress, Step, StepError};
use tokio::time::Instant;

use crate::database::{Active, Database};
use crate::metrics::Metrics;

/// How often the ages of the ticks are read for the metrics.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// One call ticks all queues of a database. While it finds new events, another one follows after the shortest
/// interval; then the waits grow to the longest one.
#[derive(Debug)]
pub struct Tick {
    database: Arc<Database>,
    metrics: Metrics,
    ready: Condition,
    status_read: Option<Instant>,
    /// Queues that could not be ticked, and why: each is logged when it begins and when it changes.
    failing: BTreeMap<String, String>,
}

impl Tick {
    /// The step for one database. `ready` is met when the database has answered well once.
    #[must_use]
    pub fn new(database: Arc<Database>, metrics: Metrics, ready: Condition) -> Self {
        Self { database, metrics, ready, status_read: None, failing: BTreeMap::new() }
    }

    /// What a pass did, for metrics and logs. Returns how many new events it found.
    fn note(&mut self, ticked: &[Ticked]) -> u64 {
        let mut total = 0;
        let mut failing = BTreeMap::new();
        for one in ticked {
            match one {
                Ticked::Cut { queue, tick, new_events } => {
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
        total
    }

    fn status_is_due(&self) -> bool {
        self.status_read.is_none_or(|read| read.elapsed() >= STATUS_EVERY)
    }
}

impl Step for Tick {
    const NAME: &'static str = "tick";

    async fn step(&mut self) -> Result<Progress, StepError> {
        let database = Arc::clone(&self.database);
        let Some(mut active) = database.hold().await? else {
            self.ready.met();
            self.metrics.stands_by(database.name());
            return Ok(Progress::Idle);
        };
        let Active { holder, epoch, .. } = active;
        let begun = Instant::now();
        let ticked = match tick::pass(active.session(), holder, epoch).await {
            Ok(ticked) => ticked,
            Err(error) => {
                active.over(error)?;
                return Ok(Progress::Idle);
            }
        };
        self.ready.met();
        self.metrics.passed(database.name(), begun.elapsed());
        if self.status_is_due() {
            let status = tick::status(active.session()).await?;
            self.metrics.ages(database.name(), &status);
            self.status_read = Some(Instant::now());
        }
        drop(active);
        // Ticks of idle queues are no traffic: the pace goes on growing.
        Ok(match self.note(&ticked) {
            0 => Progress::Idle,
            events => Progress::Worked(u32::try_from(events).unwrap_or(u32::MAX)),
        })
    }

    fn label(&self) -> String {
        self.database.name().to_owned()
    }
}
