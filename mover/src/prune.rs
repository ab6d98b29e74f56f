//! Forgets where events came from, after the time the settings give.

use tidemill_common::db::Session;
use tidemill_common::queue::mover::prune_moved;
use tidemill_common::service::{Progress, Step, StepError};

use crate::lease::Lease;

/// Rows deleted per pass.
const PORTION: i32 = 1_000;

/// Prunes `tidemill.moved`.
#[derive(Debug)]
pub struct PruneOrigins {
    /// The destination.
    pub session: Session,
    /// Only the mover that moves prunes.
    pub lease: Lease,
    /// How long origins are kept, in seconds.
    pub keep_s: i32,
}

impl Step for PruneOrigins {
    const NAME: &'static str = "prune_origins";

    async fn step(&mut self) -> Result<Progress, StepError> {
        if self.lease.held().is_none() {
            return Ok(Progress::Idle);
        }
        let pruned = prune_moved(&mut self.session, self.keep_s, PORTION).await?;
        if pruned < PORTION {
            // The connection is needed once a minute: not worth keeping.
            self.session.close();
            return Ok(Progress::Idle);
        }
        Ok(Progress::of(usize::try_from(pruned).unwrap_or(0)))
    }

    fn label(&self) -> String {
        self.session.target().name().to_owned()
    }
}
