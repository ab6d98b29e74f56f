//! How leased jobs are carried out: the one seam between a lane and its handlers.

use std::any::Any;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use tidemill_common::api::{self, GrabbedJob, RawValue};

use super::attempt::AttemptTime;
use super::leases::Lease;
use crate::job::{Job, JobKind, Stop, StopReason};
use crate::outcome::{Failure, Outcome};
use crate::progress::Reports;

/// How long a job that failed waits for its last report to be heard.
const SETTLE: Duration = Duration::from_secs(3);

/// A leased job that is about to be carried out.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) lease: Lease,
    pub(crate) grabbed: Arc<GrabbedJob>,
    pub(crate) stop: Stop,
    pub(crate) reports: Reports,
    /// Of a job with a timeout.
    pub(crate) time: Option<AttemptTime>,
}

/// What a lane does about a job that was carried out.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Tell the dispatcher.
    Send(api::Outcome),
    /// It is committed, together with its effects.
    Committed,
    /// Nobody can be told: the lease is not live.
    Gone,
}

/// Carries out jobs.
pub(crate) trait Execute: Send + Sync + 'static {
    /// The most jobs of one call.
    fn batch(&self) -> usize;

    /// May a call be dropped half-way when its lease is lost?
    fn droppable(&self) -> bool;

    /// Carries out jobs; one verdict for each.
    fn run(self: Arc<Self>, tasks: Vec<Task>) -> BoxFuture<'static, Vec<(Lease, Verdict)>>;
}

/// What to do with a job of a type that has no handler. It happens only if it is grabbed at all: by default a worker
/// grabs the types that it has handlers for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UnknownType {
    /// Grab the registered types only.
    #[default]
    NotGrabbed,
    /// Grab everything; what has no handler is given back.
    Decline,
    /// Grab everything; what has no handler becomes a dead letter.
    PermFail,
}

type Call = dyn Fn(Task) -> BoxFuture<'static, api::Outcome> + Send + Sync;

/// Handlers by job type.
#[derive(Default)]
pub(crate) struct Handlers {
    by_type: HashMap<String, Box<Call>>,
    pub(crate) unknown: UnknownType,
    pub(crate) timeout: Option<Duration>,
}

impl Handlers {
    pub(crate) fn register<T, F, Fut, R>(&mut self, handler: F)
    where
        T: JobKind,
        F: Fn(Job<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, Failure>> + Send + 'static,
        R: Into<Outcome> + 'static,
    {
        let call = move |task: Task| match parse::<T>(&task) {
            Ok(job) => settle(handler(job)).boxed(),
            Err(failure) => std::future::ready(failure.into()).boxed(),
        };
        self.by_type.insert(T::TYPE.to_owned(), Box::new(call));
    }

    pub(crate) fn register_raw<F, Fut, R>(&mut self, job_type: &str, handler: F)
    where
        F: Fn(Job<Box<RawValue>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, Failure>> + Send + 'static,
        R: Into<Outcome> + 'static,
    {
        let call = move |task: Task| {
            let args = task.grabbed.args.clone();
            let Task { lease: _, grabbed, stop, reports, time } = task;
            settle(handler(Job { args, grabbed, stop, reports, time })).boxed()
        };
        self.by_type.insert(job_type.to_owned(), Box::new(call));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_type.is_empty()
    }

    /// The types to be grabbed; none: all.
    pub(crate) fn types(&self) -> Option<Vec<String>> {
        (self.unknown == UnknownType::NotGrabbed).then(|| {
            let mut types: Vec<String> = self.by_type.keys().cloned().collect();
            types.sort_unstable();
            types
        })
    }

    async fn carry_out(&self, task: Task) -> api::Outcome {
        let Some(call) = self.by_type.get(&task.grabbed.job_type) else {
            return match self.unknown {
                UnknownType::PermFail => {
                    Failure::permanent(format_args!("no handler for the type `{}`", task.grabbed.job_type))
                        .into()
                }
                UnknownType::NotGrabbed | UnknownType::Decline => api::Outcome::Decline,
            };
        };
        let time = task.time.map(|time| (time, task.stop.clone()));
        let handling = async {
            // The handler may also panic before it returns its future.
            let handling = AssertUnwindSafe(async { call(task).await }).catch_unwind();
            let handled = match self.timeout {
                Some(limit) => match tokio::time::timeout(limit, handling).await {
                    Ok(handled) => handled,
                    Err(_) => return Failure::temporary(format_args!("took longer than {limit:?}")).into(),
                },
                None => handling.await,
            };
            handled.unwrap_or_else(|panic| panicked(&*panic).into())
        };
        match time {
            Some((time, stop)) => time.within(&stop, handling).await.unwrap_or_else(|| time.failure().into()),
            None => handling.await,
        }
    }
}

impl Execute for Handlers {
    fn batch(&self) -> usize {
        1
    }

    fn droppable(&self) -> bool {
        true
    }

    fn run(self: Arc<Self>, tasks: Vec<Task>) -> BoxFuture<'static, Vec<(Lease, Verdict)>> {
        async move {
            let mut verdicts = Vec::with_capacity(tasks.len());
            for task in tasks {
                let (lease, stop, reports) =
                    (Arc::clone(&task.lease), task.stop.clone(), task.reports.clone());
                let patience = task.time.map_or(SETTLE, |time| SETTLE.min(time.margin() / 2));
                let outcome = self.carry_out(task).await;
                // There will be another attempt: it should know how far this one came.
                if matches!(outcome, api::Outcome::TempFail { .. } | api::Outcome::Decline)
                    && reports.waits()
                    && stop.reason() != Some(StopReason::LeaseLost)
                {
                    reports.settled(patience).await;
                }
                verdicts.push((lease, Verdict::Send(outcome)));
            }
            verdicts
        }
        .boxed()
    }
}

async fn settle<R: Into<Outcome>>(handling: impl Future<Output = Result<R, Failure>>) -> api::Outcome {
    match handling.await {
        Ok(outcome) => outcome.into().into(),
        Err(failure) => failure.into(),
    }
}

/// The job with its arguments decoded.
pub(crate) fn parse<T: DeserializeOwned>(task: &Task) -> Result<Job<T>, Failure> {
    match serde_json::from_str(task.grabbed.args.get()) {
        Ok(args) => {
            let Task { lease: _, grabbed, stop, reports, time } = task.clone();
            Ok(Job { args, grabbed, stop, reports, time })
        }
        // Temporary: a newer worker may know these arguments. Its attempts are counted, so it ends.
        Err(error) => Err(Failure::temporary(format_args!(
            "the arguments do not fit the type `{}`: {error}",
            task.grabbed.job_type
        ))),
    }
}

/// The failure of a handler that panicked.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    Failure::temporary(format_args!("the handler panicked: {message}"))
}
