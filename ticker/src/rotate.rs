//! Rotate: event tables that nobody needs are emptied.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemill_common::db::DbError;
use tidemill_common::error_chain;
use tidemill_common::queue::maintain::{self, Blocked, Rotation, Task};
use tidemill_common::service::{Progress, Step, StepError};

use crate::database::{Active, Database};
use crate::metrics::Metrics;
use crate::promote::UNTIL_WOKEN;

/// SQLSTATE of a write that found no room on the disk.
const DISK_FULL: &str = "53100";
/// A table that was locked is tried again so soon.
const LOCKED: Duration = Duration::from_secs(1);

/// Answers to requests with an idempotency key that are forgotten at a time.
const FORGET: u32 = 10_000;

/// Rotates every queue whose time has come, each in a transaction of its own, and removes old ticks and answers that
/// need not be given again. The tick step wakes it. What cannot be rotated says why, in a metric and in the log; as long
/// as that can be seen without trying, nothing is written.
#[derive(Debug)]
pub struct Rotate {
    database: Arc<Database>,
    metrics: Metrics,
    /// Time between two portions of old ticks or answers.
    interval: Duration,
    /// What was said about a queue: each reason is logged when it begins.
    said: BTreeMap<String, Blocked>,
}

/// What one round over the queues found.
#[derive(Debug, Default)]
struct Round {
    rotated: u32,
    blocked: BTreeMap<String, Blocked>,
    pruned: bool,
}

impl Rotate {
    /// The step for one database.
    #[must_use]
    pub fn new(database: Arc<Database>, metrics: Metrics, interval: Duration) -> Self {
        Self { database, metrics, interval, said: BTreeMap::new() }
    }

    /// One queue. `None`: this process does not have the term.
    async fn rotate(&self, queue: &str) -> Result<Option<Rotation>, DbError> {
        let Some(mut active) = self.database.hold().await? else { return Ok(None) };
        let Active { holder, epoch, .. } = active;
        let mut tried = maintain::rotate(active.session(), holder, epoch, queue).await;
        if let Err(error) = &tried
            && error.code().is_some_and(|code| code.code() == DISK_FULL)
            && maintain::drop_ballast(active.session()).await?
        {
            tracing::warn!(
                database.name = self.database.name(),
                queue.name = queue,
                "disk is full: the ballast was dropped, so that a rotation can make room"
            );
            tried = maintain::rotate(active.session(), holder, epoch, queue).await;
        }
        match tried {
            Ok(rotation) => Ok(Some(rotation)),
            Err(error) => active.over(error).map(|()| None),
        }
    }

    /// Makes known to all that the rotations before are committed. Also for a ticker that died in between.
    async fn rotated(&self) -> Result<(), DbError> {
        let Some(mut active) = self.database.hold().await? else { return Ok(()) };
        let Active { holder, epoch, .. } = active;
        match maintain::rotated(active.session(), holder, epoch).await {
            Ok(()) => Ok(()),
            Err(error) => active.over(error),
        }
    }

    /// One portion of what need not be remembered. `None`: this process does not have the term.
    async fn forget(&self) -> Result<Option<u32>, DbError> {
        let Some(mut active) = self.database.hold().await? else { return Ok(None) };
        let Active { holder, epoch, .. } = active;
        match maintain::forget(active.session(), holder, epoch, FORGET).await {
            Ok(count) => Ok(Some(count)),
            Err(error) => active.over(error).map(|()| None),
        }
    }

    /// Tries what there is to try. `None`: this process does not have the term.
    async fn round(&self, tasks: Vec<Task>) -> Result<Option<Round>, DbError> {
        let mut round = Round::default();
        if tasks.iter().any(|task| matches!(task, Task::Finish(_))) {
            self.rotated().await?;
        }
        for task in tasks {
            let queue = match task {
                Task::Finish(_) => continue,
                Task::Forget => {
                    let Some(count) = self.forget().await? else { return Ok(None) };
                    round.pruned |= count >= FORGET;
                    continue;
                }
                Task::Rotate(queue, Some(reason)) => {
                    round.blocked.insert(queue, reason);
                    continue;
                }
                Task::Rotate(queue, None) => queue,
                Task::Prune(queue) => {
                    round.pruned = true;
                    queue
                }
            };
            match self.rotate(&queue).await {
                Ok(None) => return Ok(None),
                Ok(Some(Rotation::NotDue)) => {}
                Ok(Some(Rotation::Done)) => {
                    tracing::info!(database.name = self.database.name(), queue.name = queue, "rotated");
                    round.rotated += 1;
                }
                Ok(Some(Rotation::Blocked(reason))) => {
                    round.blocked.insert(queue, reason);
                }
                Err(error) if error.is_connection() => return Err(error),
                Err(error) => {
                    // One queue must not keep the others from rotating.
                    tracing::warn!(
                        database.name = self.database.name(), queue.name = queue, error = %error_chain(&error),
                        "rotation failed"
                    );
                }
            }
        }
        if round.rotated > 0 {
            self.rotated().await?;
            let mut connection = self.database.connection().await;
            maintain::keep_ballast(connection.session()).await?;
        }
        Ok(Some(round))
    }

    /// Says who is in the way, once for each queue and reason.
    async fn say(&mut self, blocked: BTreeMap<String, Blocked>) -> Result<(), DbError> {
        if blocked.iter().any(|(queue, reason)| self.said.get(queue) != Some(reason)) {
            let obstacles = maintain::obstacles(self.database.connection().await.session()).await?;
            for obstacle in obstacles.iter().filter(|obstacle| {
                blocked.get(&obstacle.queue) == Some(&obstacle.reason)
                    && self.said.get(&obstacle.queue) != Some(&obstacle.reason)
            }) {
                tracing::warn!(
                    database.name = self.database.name(),
                    queue.name = obstacle.queue,
                    reason = obstacle.reason.as_str(),
                    detail = obstacle.detail,
                    "queue cannot be rotated"
                );
            }
        }
        self.said = blocked;
        Ok(())
    }
}

impl Step for Rotate {
    const NAME: &'static str = "rotate";

    async fn step(&mut self) -> Result<Progress, StepError> {
        if !self.database.is_serving() {
            return Ok(Progress::Rest(UNTIL_WOKEN));
        }
        let tasks = maintain::tasks(self.database.connection().await.session()).await?;
        let Some(round) = self.round(tasks).await? else { return Ok(Progress::Rest(UNTIL_WOKEN)) };
        let count = |reason| round.blocked.values().filter(|blocked| **blocked == reason).count();
        self.metrics.rotated(self.database.name(), round.rotated, count);
        let (locked, pruned) = (count(Blocked::Locked) > 0, round.pruned);
        self.say(round.blocked).await?;
        Ok(Progress::Rest(match (locked, pruned) {
            (true, _) => LOCKED.min(self.interval),
            (_, true) => self.interval,
            (false, false) => UNTIL_WOKEN,
        }))
    }

    fn label(&self) -> String {
        self.database.name().to_owned()
    }
}
