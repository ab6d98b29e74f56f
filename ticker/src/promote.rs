//! Promote: what is due goes back into the log.

use std::sync::Arc;

use tidemill_common::queue::maintain;
use tidemill_common::service::{Progress, Step, StepError, Wake};

use crate::database::{Active, Database};

/// At most so many jobs per pass: a transaction of well under a second.
const LIMIT: u32 = 5_000;

/// Puts due jobs of the waiting room and due retry events back into the log, then wakes the tick that shows them.
#[derive(Debug)]
pub struct Promote {
    database: Arc<Database>,
    tick: Wake,
}

impl Promote {
    /// The step for one database; `tick` wakes its tick step.
    #[must_use]
    pub fn new(database: Arc<Database>, tick: Wake) -> Self {
        Self { database, tick }
    }
}

impl Step for Promote {
    const NAME: &'static str = "promote";

    async fn step(&mut self) -> Result<Progress, StepError> {
        let Some(mut active) = self.database.active().await else { return Ok(Progress::Idle) };
        let Active { holder, epoch, .. } = active;
        let due = match maintain::due(active.session(), holder, epoch, LIMIT).await {
            Ok(due) => due,
            Err(error) => {
                active.over(error)?;
                return Ok(Progress::Idle);
            }
        };
        drop(active);
        let count = due.promoted.saturating_add(due.retried);
        if count > 0 {
            self.tick.wake();
        }
        // Retry events say only whether there were any: another look is cheap.
        let more = due.promoted >= LIMIT || due.retried > 0;
        Ok(if more { Progress::Worked(count) } else { Progress::Idle })
    }

    fn label(&self) -> String {
        self.database.name().to_owned()
    }
}
