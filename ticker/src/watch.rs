//! Watch: whether any transaction of a server has ended.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tidemill_common::db::Session;
use tidemill_common::queue::tick;
use tidemill_common::service::{Progress, Step, StepError};

use crate::cluster::Cluster;

/// Time between two readings.
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);
/// So many databases are woken at a time, and so long after one another: 256 within 80 ms.
const SLICE: usize = 16;
const BETWEEN_SLICES: Duration = Duration::from_millis(5);
/// After so long without an answer the databases look for themselves.
const PATIENCE: Duration = Duration::from_millis(150);
/// After so long the connection is given up.
const LIMIT: Duration = Duration::from_secs(2);

/// Reads what is visible on one server, over the connection of a database that needs it for nothing else at the moment,
/// and wakes the databases that slept before that changed.
#[derive(Debug)]
pub struct Watch {
    cluster: Arc<Cluster>,
    /// Whose connection was used last; the next one after a failure.
    turn: usize,
}

enum Reading {
    Visible(i64),
    /// This connection leads to another server by now: its database will notice.
    Elsewhere,
}

impl Watch {
    /// The step for one server.
    #[must_use]
    pub fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, turn: 0 }
    }

    async fn read(&self, session: &mut Session) -> Result<Reading, StepError> {
        let mut reading = pin!(tick::visible(session));
        let answer = match tokio::time::timeout(PATIENCE, &mut reading).await {
            Ok(answer) => answer,
            Err(_) => {
                // This connection hangs; that must delay nobody else.
                self.cluster.blind();
                self.cluster.wake(usize::MAX);
                match tokio::time::timeout(LIMIT, reading).await {
                    Ok(answer) => answer,
                    Err(late) => return Err(StepError::retry(late)),
                }
            }
        };
        match answer {
            Ok((visible, started)) if started == self.cluster.server().started => {
                Ok(Reading::Visible(visible))
            }
            Ok(_) => Ok(Reading::Elsewhere),
            Err(error) => Err(error.into()),
        }
    }
}

impl Step for Watch {
    const NAME: &'static str = "watch";

    async fn step(&mut self) -> Result<Progress, StepError> {
        if self.cluster.wake(SLICE) {
            return Ok(Progress::Rest(BETWEEN_SLICES));
        }
        let members = self.cluster.members();
        let order = (0..members.len()).map(|n| (self.turn + n) % members.len());
        let free = order.into_iter().find_map(|at| Some((at, members[at].spare()?)));
        let Some((at, mut connection)) = free else {
            // All of them are being looked into, or cannot be reached.
            self.cluster.blind();
            self.cluster.wake(usize::MAX);
            return Ok(Progress::Idle);
        };
        self.turn = at;
        match self.read(connection.session()).await {
            Ok(Reading::Visible(visible)) => {
                self.cluster.saw(visible);
                let more = self.cluster.wake(SLICE);
                Ok(if more { Progress::Rest(BETWEEN_SLICES) } else { Progress::Idle })
            }
            other => {
                self.turn += 1;
                self.cluster.blind();
                self.cluster.wake(usize::MAX);
                other?;
                Ok(Progress::Idle)
            }
        }
    }

    fn label(&self) -> String {
        self.cluster.server().address.clone()
    }
}
