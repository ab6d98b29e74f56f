//! Discover: which job queues there are and who owns each; starts a server for every new one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tidemill_common::config::matches;
use tidemill_common::db::{DbError, Session, Target};
use tidemill_common::queue::dispatch;
use tidemill_common::schema::{self, SchemaError};
use tidemill_common::service::{Classified, Condition, Progress, Shutdown, Step, StepError, Tasks, Wake};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::command::QueueHandle;
use crate::metrics::DispatchMetrics;
use crate::routes::{Route, Routes, Seen};
use crate::serve::{Identity, QueueServer};
use crate::steering::Steering;

/// How often to look what workers are told.
const STEERING: Duration = Duration::from_secs(1);
/// Commands that may wait for one server; more are held back in the HTTP layer.
const COMMANDS: usize = 4096;

/// Looks at the job queues of one database.
pub struct Discover {
    pub(crate) session: Session,
    pub(crate) target: Arc<Target>,
    /// Patterns of the queues to serve.
    pub(crate) patterns: Vec<String>,
    pub(crate) identity: Identity,
    pub(crate) routes: Routes,
    pub(crate) steering: Steering,
    pub(crate) tasks: Tasks,
    pub(crate) metrics: DispatchMetrics,
    /// The queues of the database have been seen once.
    pub(crate) seen_once: Condition,
    known: HashMap<String, Known>,
    checked: bool,
    /// When the steering was read.
    steered: Option<Instant>,
}

/// A queue whose server runs.
struct Known {
    queue_id: i32,
    seen: watch::Sender<Seen>,
    stop: Shutdown,
}

/// A failed look.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiscoverError {
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error(transparent)]
    Database(#[from] DbError),
}

impl Classified for DiscoverError {
    fn class(&self) -> tidemill_common::db::Class {
        match self {
            Self::Schema(error) => error.class(),
            Self::Database(error) => error.class(),
        }
    }
}

impl Discover {
    #[expect(clippy::too_many_arguments, reason = "the parts of one step, named where they are put together")]
    pub(crate) fn new(
        session: Session,
        target: Arc<Target>,
        patterns: Vec<String>,
        identity: Identity,
        routes: Routes,
        steering: Steering,
        tasks: Tasks,
        metrics: DispatchMetrics,
        seen_once: Condition,
    ) -> Self {
        let (known, checked, steered) = (HashMap::new(), false, None);
        Self {
            session,
            target,
            patterns,
            identity,
            routes,
            steering,
            tasks,
            metrics,
            seen_once,
            known,
            checked,
            steered,
        }
    }

    async fn look(&mut self) -> Result<(), DiscoverError> {
        if !self.checked {
            schema::check(&mut self.session).await?;
            self.checked = true;
        }
        let queues = dispatch::queues(&mut self.session).await?;
        let at = Instant::now();
        let wanted = |name: &str| self.patterns.iter().any(|pattern| matches(pattern, name));
        let queues: Vec<_> = queues.into_iter().filter(|queue| wanted(&queue.name)).collect();

        self.known.retain(|name, known| {
            let stays = queues.iter().any(|queue| queue.name == *name && queue.queue_id == known.queue_id);
            if !stays {
                known.stop.begin();
                self.routes.remove(name);
            }
            stays
        });
        for queue in queues {
            match self.known.get(&queue.name) {
                Some(known) => drop(known.seen.send_replace(Seen { queue, at })),
                None => self.begin(Seen { queue, at }).await?,
            }
        }
        if self.steered.is_none_or(|read| at.duration_since(read) >= STEERING) {
            self.steering.read(&mut self.session).await?;
            self.steered = Some(at);
        }
        self.seen_once.met();
        Ok(())
    }

    /// Starts the server of a queue.
    async fn begin(&mut self, seen: Seen) -> Result<(), DbError> {
        let (name, queue_id) = (seen.queue.name.clone(), seen.queue.queue_id);
        let ticked = Wake::new();
        self.session.listen("tidemill_tick", ticked.clone()).await?;
        let (handle, commands) = QueueHandle::channel(COMMANDS);
        let (seen, seen_here) = watch::channel(seen);
        let (owned, owned_here) = watch::channel(false);
        let stop = self.tasks.shutdown().child();
        let target = Arc::clone(&self.target);
        let server = QueueServer {
            identity: self.identity.clone(),
            seen: seen_here.clone(),
            owned,
            commands,
            ticked,
            connect: Box::new(move || Session::new(Arc::clone(&target), "tidemill-dispatcher")),
            metrics: self.metrics.of(&name),
            stop: stop.clone(),
        };
        self.tasks.once(&format!("serve[{name}]"), server.run());
        self.routes.insert(name.clone(), Route { seen: seen_here, handle, owned: owned_here });
        self.known.insert(name, Known { queue_id, seen, stop });
        Ok(())
    }
}

impl Step for Discover {
    const NAME: &'static str = "discover";

    async fn step(&mut self) -> Result<Progress, StepError> {
        self.look().await?;
        Ok(Progress::Idle)
    }

    fn label(&self) -> String {
        self.target.name().to_owned()
    }
}
