//! What a service is given to build itself from.

use std::sync::Arc;

use prometheus::Registry;
use uuid::Uuid;

use super::admin::{Beats, Readiness};
use super::metrics::{self, StepMetrics};
use super::pace::Pace;
use super::shutdown::Shutdown;
use super::step::Step;
use super::tasks::{BoxError, Supervisor, Tasks};
use super::wake::Wake;
use crate::config::{ConfigError, Settings};
use crate::db::{Session, Target};

/// Settings, metrics and the means to run steps; one per process.
pub struct Context {
    /// Name of the service: `ticker`, `mover`, …
    pub service: &'static str,
    /// The checked settings.
    pub settings: Arc<Settings>,
    /// Where the service registers its metrics.
    pub metrics: Registry,
    /// The wish to stop.
    pub shutdown: Shutdown,
    /// This process, made anew at each start.
    pub instance: Uuid,
    readiness: Readiness,
    tasks: Tasks,
}

/// The parts of a context that `main` keeps.
pub(super) struct Kept {
    pub supervisor: Supervisor,
    pub beats: Beats,
}

impl Context {
    /// A context and what watches over it.
    pub(super) fn new(
        service: &'static str,
        settings: Arc<Settings>,
        shutdown: Shutdown,
    ) -> Result<(Self, Kept), BoxError> {
        let registry = Registry::new();
        metrics::describe(&registry, service, settings.targets())?;
        let beats = Beats::default();
        let (tasks, supervisor) = Tasks::new(shutdown.clone(), beats.clone(), StepMetrics::new(&registry)?);
        let readiness = Readiness::default();
        let instance = Uuid::new_v4();
        let context = Self { service, settings, metrics: registry, shutdown, instance, readiness, tasks };
        Ok((context, Kept { supervisor, beats }))
    }

    /// Runs a step until the process stops. The result wakes it.
    pub fn run<S: Step + 'static>(&mut self, step: S, pace: Pace) -> Wake {
        self.tasks.run(step, pace)
    }

    /// Like [`Context::run`] with a wake-up that the step, or another one, holds already.
    pub fn run_on<S: Step + 'static>(&mut self, step: S, pace: Pace, wake: Wake) {
        self.tasks.run_on(step, pace, self.shutdown.clone(), wake);
    }

    /// Runs a future as long as the process; it ends soon after [`Context::shutdown`] is wanted. If it ends
    /// sooner, or with an error, the process stops with exit code 1.
    pub fn spawn<F, E>(&mut self, name: &str, future: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.tasks.spawn(name, future);
    }

    /// For steps that start others while the process runs.
    #[must_use]
    pub fn tasks(&self) -> Tasks {
        self.tasks.clone()
    }

    /// The conditions of `/readyz`. Register every condition while building: the process is ready when all
    /// of them hold.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    /// The configured databases whose names match one of the patterns (`*` stands for any characters), in
    /// the order of the configuration.
    ///
    /// # Errors
    /// A sentence if a pattern matches none: it would be a silent mistake.
    pub fn databases(&self, patterns: &[String]) -> Result<Vec<Arc<Target>>, ConfigError> {
        self.settings.databases_matching(patterns)
    }

    /// A session of this service, not connected yet; `pg_stat_activity` shows `tidemill-<service>`.
    #[must_use]
    pub fn session(&self, target: &Arc<Target>) -> Session {
        Session::new(Arc::clone(target), &format!("tidemill-{}", self.service))
    }
}
