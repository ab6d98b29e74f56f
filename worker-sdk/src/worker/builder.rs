//! How a worker is put together.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tidemill_common::api::{RawValue, WorkerInfo, limit};
use tidemill_common::id::{QueueName, WorkerInstance};

use super::execute::{Execute, Handlers, UnknownType};
use super::lane::LaneSettings;
use super::transactional::{Transactional, TransactionalHandler};
use super::{LaneParts, Worker};
use crate::client::{Client, ClientError};
use crate::job::{Job, JobKind};
use crate::outcome::{Failure, Outcome};

/// Why a worker cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The dispatcher's address, the token, or TLS.
    #[error("set up the client")]
    Client(#[from] ClientError),
    /// A queue's name is not one.
    #[error("`{0}` is not a queue: {1}")]
    Queue(String, #[source] tidemill_common::id::InvalidName),
    /// No queue is named.
    #[error("no queue is named")]
    NoQueue,
    /// Nothing is registered.
    #[error("no handler is registered")]
    NoHandler,
    /// A type is registered twice, or beside a handler of all types.
    #[error("the job type `{0}` has two handlers")]
    TwoHandlers(String),
    /// A number is out of range.
    #[error("{name} must be between {min} and {max}")]
    Range {
        /// The setting.
        name: &'static str,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
}

/// Settings and handlers of a [`Worker`].
#[must_use = "a builder does nothing before `build`"]
pub struct WorkerBuilder {
    urls: Vec<String>,
    token: Option<String>,
    queues: Vec<String>,
    handlers: Handlers,
    transactional: Vec<Batches>,
    concurrency: usize,
    prefetch: usize,
    lease: Duration,
    wait: Duration,
    drain: Duration,
    name: Option<String>,
    version: Option<String>,
}

/// A transactional handler.
struct Batches {
    execute: Arc<dyn Execute>,
    /// Connections, and jobs of a batch.
    limits: (usize, usize),
    types: Option<Vec<String>>,
}

impl WorkerBuilder {
    pub(super) fn new(url: String) -> WorkerBuilder {
        WorkerBuilder {
            urls: vec![url],
            token: None,
            queues: Vec::new(),
            handlers: Handlers::default(),
            transactional: Vec::new(),
            concurrency: 16,
            prefetch: 64,
            lease: Duration::from_secs(60),
            wait: Duration::from_secs(20),
            drain: Duration::from_secs(20),
            name: None,
            version: None,
        }
    }

    /// Another dispatcher to ask when one does not answer. Any dispatcher takes anything.
    pub fn or(mut self, url: impl Into<String>) -> Self {
        self.urls.push(url.into());
        self
    }

    /// The bearer token.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Works on this queue. With several, the first one that has work is served.
    pub fn queue(mut self, name: impl Into<String>) -> Self {
        self.queues.push(name.into());
        self
    }

    /// Handles the jobs of type `T`. The handler is called concurrently; a panic is a temporary failure.
    pub fn register<T, F, Fut, R>(mut self, handler: F) -> Self
    where
        T: JobKind,
        F: Fn(Job<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, Failure>> + Send + 'static,
        R: Into<Outcome> + 'static,
    {
        self.handlers.register(handler);
        self
    }

    /// Handles the jobs of this type with their arguments as they are stored.
    pub fn register_raw<F, Fut, R>(mut self, job_type: &str, handler: F) -> Self
    where
        F: Fn(Job<Box<RawValue>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, Failure>> + Send + 'static,
        R: Into<Outcome> + 'static,
    {
        self.handlers.register_raw(job_type, handler);
        self
    }

    /// Handles jobs in batches, each in one database transaction together with their completion.
    pub fn register_transactional<H: TransactionalHandler>(mut self, handler: Transactional<H>) -> Self {
        let (limits, types) = (handler.limits(), handler.types());
        self.transactional.push(Batches { execute: Arc::new(handler), limits, types });
        self
    }

    /// What to do with types that have no handler. Default: not to grab them.
    pub fn unknown_types(mut self, unknown: UnknownType) -> Self {
        self.handlers.unknown = unknown;
        self
    }

    /// How many handlers run at the same time. Default 16.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.concurrency = handlers;
        self
    }

    /// How many times `concurrency` jobs to keep on hand at most; 1: none ahead. It is as many as the handlers get
    /// through in a tenth of a second, so only quick ones have jobs wait. Default 64.
    pub fn prefetch(mut self, times: usize) -> Self {
        self.prefetch = times;
        self
    }

    /// How long a lease is: how soon a job is given to another worker when this one dies. A handler may take much
    /// longer, its lease is extended. 1 s to 1 day, default 60 s.
    pub fn lease(mut self, length: Duration) -> Self {
        self.lease = length;
        self
    }

    /// How long a request may wait for work, at most a sixth of the lease. Default 20 s, at most 30 s.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// After this long a handler is stopped and its job fails for now. Default: never.
    pub fn handler_timeout(mut self, limit: Duration) -> Self {
        self.handlers.timeout = Some(limit);
        self
    }

    /// How long handlers may go on after a shutdown begins; the whole shutdown takes at most 4 s more. Default 20 s.
    pub fn drain(mut self, budget: Duration) -> Self {
        self.drain = budget;
        self
    }

    /// What to call this worker in lists.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Which version of it this is.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Checks everything. Nothing is connected yet.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(self) -> Result<Worker, BuildError> {
        let queues = self.queue_names()?;
        self.check_types()?;
        range("lease (ms)", self.lease.as_millis(), limit::LEASE_MIN_MS, limit::LEASE_MAX_MS)?;
        range("concurrency", self.concurrency as u128, 1, 10_000)?;
        range("prefetch", self.prefetch as u128, 1, 100)?;
        let token = self.token.as_deref();
        let client = Client::new(&self.urls, token)?;
        let heartbeat = Client::new(&self.urls, token)?;

        // A long wait would eat up the trust in the lease that it ends with, which counts from its start.
        let wait = self.wait.min(self.lease / 6).min(Duration::from_millis(limit::WAIT_MS));
        let host = host();
        let lane = |types: Option<Vec<String>>, transactional, concurrency| LaneSettings {
            queues: queues.clone(),
            types,
            transactional,
            concurrency,
            prefetch: self.prefetch,
            wait,
            drain: self.drain,
            // An instance of its own: request numbers count the grabs of one instance.
            worker: WorkerInfo {
                instance: WorkerInstance::random(),
                host: host.clone(),
                pid: Some(std::process::id()),
                name: self.name.clone(),
                version: self.version.clone(),
            },
        };
        let mut lanes = Vec::new();
        for Batches { execute, limits: (connections, batch), types } in self.transactional {
            range("connections", connections as u128, 1, 1_000)?;
            range("batch", batch as u128, 1, 10_000)?;
            lanes.push(LaneParts { settings: lane(types, true, connections), execute });
        }
        if !self.handlers.is_empty() {
            let settings = lane(self.handlers.types(), false, self.concurrency);
            lanes.push(LaneParts { settings, execute: Arc::new(self.handlers) });
        }
        Ok(Worker { client: Arc::new(client), heartbeat, lanes, lease: self.lease })
    }

    fn queue_names(&self) -> Result<Vec<QueueName>, BuildError> {
        if self.queues.is_empty() {
            return Err(BuildError::NoQueue);
        }
        self.queues
            .iter()
            .map(|name| name.parse().map_err(|error| BuildError::Queue(name.clone(), error)))
            .collect()
    }

    /// No job may have two handlers that both grab it.
    fn check_types(&self) -> Result<(), BuildError> {
        let mut lanes: Vec<Option<Vec<String>>> =
            self.transactional.iter().map(|batches| batches.types.clone()).collect();
        if !self.handlers.is_empty() {
            lanes.push(self.handlers.types());
        }
        match lanes.as_slice() {
            [] => return Err(BuildError::NoHandler),
            [_] => return Ok(()),
            [_, ..] => {}
        }
        let mut seen = HashSet::new();
        for types in lanes {
            let Some(types) = types else { return Err(BuildError::TwoHandlers("*".to_owned())) };
            for name in types {
                if !seen.insert(name.clone()) {
                    return Err(BuildError::TwoHandlers(name));
                }
            }
        }
        Ok(())
    }
}

fn range(name: &'static str, number: u128, min: u64, max: u64) -> Result<(), BuildError> {
    if (u128::from(min)..=u128::from(max)).contains(&number) {
        Ok(())
    } else {
        Err(BuildError::Range { name, min, max })
    }
}

/// This machine's name, for people.
fn host() -> Option<String> {
    ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok())
        .map(|name| name.trim().to_owned())
}
