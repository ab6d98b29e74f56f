//! Operate: the maintenance that others have asked for, which pgqd would run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidemill_common::db::Session;
use tidemill_common::error_chain;
use tidemill_common::queue::maintain::{self, Operation};
use tidemill_common::service::{Progress, Step, StepError};

use crate::database::Database;
use crate::metrics::Metrics;

/// A function that always asks to be called again is left for the next round.
const REPEATS: usize = 1_000;
/// Longest time of one call.
pub(crate) const DEADLINE: Duration = Duration::from_secs(600);

/// Runs the functions of `queue_extra_maint`, those of `pgq_node` and Londiste, and vacuum where the server does not: all
/// that `pgq.maint_operations` lists beside rotation. With this process's own rights, each on its own: one that fails
/// does not stop the others. Over a connection that is there only while there is something to run, because some take
/// long, and ticks must not wait.
#[derive(Debug)]
pub struct Operate {
    database: Arc<Database>,
    session: Session,
    metrics: Metrics,
    interval: Duration,
    /// Which ones failed, and how: each is logged when it begins and when it changes.
    failing: BTreeMap<String, String>,
}

impl Operate {
    /// The step for one database; `session` is its second connection, with a long deadline.
    #[must_use]
    pub fn new(database: Arc<Database>, session: Session, metrics: Metrics, interval: Duration) -> Self {
        Self { database, session, metrics, interval, failing: BTreeMap::new() }
    }

    async fn run(&mut self, operations: &[Operation]) -> Result<(), StepError> {
        let mut failing = BTreeMap::new();
        for operation in operations {
            // The term is what keeps two tickers from doing this at the same time.
            if self.database.hold().await?.is_none() {
                break;
            }
            match self.repeat(operation).await {
                Ok(()) => tracing::debug!(
                    database.name = self.database.name(),
                    operation.name = operation.name,
                    "operation done"
                ),
                Err(error) if error.is_connection() => return Err(error.into()),
                Err(error) => {
                    let problem = error_chain(&error);
                    self.metrics.operation_failed(self.database.name());
                    if self.failing.get(&operation.statement) != Some(&problem) {
                        tracing::warn!(
                            database.name = self.database.name(),
                            operation.name = operation.name,
                            error = problem,
                            "operation failed"
                        );
                    }
                    failing.insert(operation.statement.clone(), problem);
                }
            }
        }
        self.failing = failing;
        Ok(())
    }

    async fn repeat(&mut self, operation: &Operation) -> Result<(), tidemill_common::db::DbError> {
        for _ in 0..REPEATS {
            if !maintain::operate(&mut self.session, operation).await? {
                break;
            }
        }
        Ok(())
    }
}

impl Step for Operate {
    const NAME: &'static str = "operate";

    async fn step(&mut self) -> Result<Progress, StepError> {
        if !self.database.is_serving() {
            return Ok(Progress::Idle);
        }
        let operations = maintain::operations(self.database.connection().await.session()).await?;
        let ran = self.run(&operations).await;
        self.session.close();
        ran?;
        Ok(Progress::Rest(self.interval))
    }

    fn label(&self) -> String {
        self.database.name().to_owned()
    }
}
