//! Promote: what is due goes back into the log.

use std::sync::Arc;
use std::time::Duration;

use tidemill_common::queue::maintain;
use tidemill_common::service::{Progress, Step, StepError};

use crate::database::{Active, Database};

/// At most so many jobs per pass: a transaction of well under a second.
const LIMIT: u32 = 5_000;
/// It is woken when there is something to do.
pub(crate) const UNTIL_WOKEN: Duration = Duration::from_secs(24 * 3600);

/// Puts due jobs of the waiting room and due retry events back into the log, then wakes the tick that shows them. The
/// tick step wakes it when something is due, having taken the term.
#[derive(Debug)]
pub struct Promote {
    database: Arc<Database>,
}

impl Promote {
    /// The step for one database.
    #[must_use]
    pub fn new(database: Arc<Database>) -> Self {
        Self { database }
    }
}

impl Step for Promote {
    const NAME: &'static str = "promote";

    async fn step(&mut self) -> Result<Progress, StepError> {
        let idle = Progress::Rest(UNTIL_WOKEN);
        if !self.database.is_held().await {
            return Ok(idle);
        }
        let Some(mut active) = self.database.hold().await? else { return Ok(idle) };
        let Active { holder, epoch, .. } = active;
        let due = match maintain::due(active.session(), holder, epoch, LIMIT).await {
            Ok(due) => due,
            Err(error) => {
                active.over(error)?;
                return Ok(idle);
            }
        };
        drop(active);
        let count = due.promoted.saturating_add(due.retried);
        if count > 0 {
            self.database.wakes().tick.wake();
        }
        // Retry events say only whether there were any: another look is cheap.
        let more = due.promoted >= LIMIT || due.retried > 0;
        Ok(if more { Progress::Worked(count) } else { idle })
    }

    fn label(&self) -> String {
        self.database.name().to_owned()
    }
}
