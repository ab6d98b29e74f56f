//! Watch: where a server's write-ahead log is.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tidemill_common::db::{DbError, Session};
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
/// Until it is tried again where it may not be read.
const FORBIDDEN: Duration = Duration::from_secs(60);

/// Reads the position of one server's log, over the connection of a database that needs it for nothing else at the
/// moment, and wakes the databases that slept before the log moved.
#[derive(Debug)]
pub struct Watch {
    cluster: Arc<Cluster>,
    /// Whose connection was used last; the next one after a failure.
    turn: usize,
}

enum Reading {
    At(i64),
    /// This connection leads to another server by now: its database will notice.
    Elsewhere,
    Forbidden,
}

impl Watch {
    /// The step for one server.
    #[must_use]
    pub fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, turn: 0 }
    }

    async fn read(&self, session: &mut Session) -> Result<Reading, StepError> {
        let mut reading = pin!(tick::position(session));
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
            Ok((position, started)) if started == self.cluster.server().started => Ok(Reading::At(position)),
            Ok(_) => Ok(Reading::Elsewhere),
            Err(error) if is_forbidden(&error) => Ok(Reading::Forbidden),
            Err(error) => Err(error.into()),
        }
    }
}

/// A role that may not read it, or a server that has become a standby.
fn is_forbidden(error: &DbError) -> bool {
    error.code().is_some_and(|code| matches!(code.code(), "42501" | "55000"))
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
            Ok(Reading::At(position)) => {
                self.cluster.saw(position);
                let more = self.cluster.wake(SLICE);
                Ok(if more { Progress::Rest(BETWEEN_SLICES) } else { Progress::Idle })
            }
            other => {
                self.turn += 1;
                self.cluster.blind();
                self.cluster.wake(usize::MAX);
                match other? {
                    Reading::Forbidden => Ok(Progress::Rest(FORBIDDEN)),
                    Reading::At(_) | Reading::Elsewhere => Ok(Progress::Idle),
                }
            }
        }
    }

    fn label(&self) -> String {
        self.cluster.server().address.clone()
    }
}
