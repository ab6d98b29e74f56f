//! Rotate: event tables that nobody needs are emptied.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemill_common::db::DbError;
use tidemill_common::error_chain;
use tidemill_common::queue::maintain::{self, Blocked, Rotation};
use tidemill_common::service::{Progress, Step, StepError};

use crate::database::{Active, Database};
use crate::metrics::Metrics;

/// Tries to rotate every queue whose time has come, each in a transaction of its own. One that cannot be rotated says
/// why in a metric; one that was only locked is tried again soon.
#[derive(Debug)]
pub struct Rotate {
    database: Arc<Database>,
    metrics: Metrics,
}

/// What one round over the queues found.
#[derive(Debug, Default)]
struct Round {
    rotated: u32,
    blocked: BTreeMap<&'static str, i64>,
}

impl Rotate {
    /// The step for one database.
    #[must_use]
    pub fn new(database: Arc<Database>, metrics: Metrics) -> Self {
        Self { database, metrics }
    }

    /// One queue. `None`: this process does not have the term.
    async fn rotate(&self, queue: &str) -> Option<Result<Rotation, DbError>> {
        let mut active = self.database.active().await?;
        let Active { holder, epoch, .. } = active;
        match maintain::rotate(active.session(), holder, epoch, queue).await {
            Ok(rotation) => Some(Ok(rotation)),
            Err(error) => match active.over(error) {
                Ok(()) => None,
                Err(error) => Some(Err(error)),
            },
        }
    }

    /// Makes known to all that the rotations before are committed. Also done first, for a ticker that died in between.
    async fn rotated(&self) -> Result<(), DbError> {
        let Some(mut active) = self.database.active().await else { return Ok(()) };
        let Active { holder, epoch, .. } = active;
        match maintain::rotated(active.session(), holder, epoch).await {
            Ok(()) => Ok(()),
            Err(error) => active.over(error),
        }
    }

    async fn queues(&self) -> Result<Vec<String>, DbError> {
        match self.database.active().await {
            Some(mut active) => maintain::queues(active.session()).await,
            None => Ok(Vec::new()),
        }
    }
}

impl Step for Rotate {
    const NAME: &'static str = "rotate";

    async fn step(&mut self) -> Result<Progress, StepError> {
        self.rotated().await?;
        let mut round = Round::default();
        for queue in self.queues().await? {
            let Some(result) = self.rotate(&queue).await else { return Ok(Progress::Idle) };
            match result {
                Ok(Rotation::NotDue) => {}
                Ok(Rotation::Done) => {
                    tracing::info!(database.name = self.database.name(), queue.name = queue, "rotated");
                    round.rotated += 1;
                }
                Ok(Rotation::Blocked(reason)) => {
                    tracing::debug!(
                        database.name = self.database.name(),
                        queue.name = queue,
                        reason = reason.as_str(),
                        "rotation skipped"
                    );
                    *round.blocked.entry(reason.as_str()).or_default() += 1;
                }
                Err(error) if error.is_connection() => return Err(error.into()),
                Err(error) => {
                    // One queue must not keep the others from rotating.
                    tracing::warn!(
                        database.name = self.database.name(), queue.name = queue, error = %error_chain(&error),
                        "rotation failed"
                    );
                }
            }
        }
        self.metrics.rotated(self.database.name(), round.rotated, |reason| {
            round.blocked.get(reason.as_str()).copied().unwrap_or(0)
        });
        if round.rotated > 0 {
            self.rotated().await?;
        }
        let locked = round.blocked.contains_key(Blocked::Locked.as_str());
        Ok(if locked { Progress::Worked(round.rotated) } else { Progress::Idle })
    }

    fn label(&self) -> String {
        self.database.name().to_owned()
    }
}
