//! Metrics that every service has, and the limit on labels.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntGaugeVec, Opts, Registry};

use super::step::{Progress, StepError};
use crate::db::Target;

/// Buckets for times from a tenth of a millisecond to a minute.
pub const SECONDS_BUCKETS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0,
];

/// `tidemill_step_seconds{step,outcome}`: outcome is `worked`, `idle` or `failed`.
#[derive(Debug, Clone)]
pub(super) struct StepMetrics {
    seconds: HistogramVec,
}

impl StepMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let options =
            HistogramOpts::new("tidemill_step_seconds", "Time of one pass of a step, by its outcome.");
        let seconds = HistogramVec::new(options.buckets(SECONDS_BUCKETS.to_vec()), &["step", "outcome"])?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self { seconds })
    }

    pub(super) fn observe(&self, step: &str, outcome: &Result<Progress, StepError>, took: Duration) {
        let outcome = match outcome {
            Ok(Progress::Worked(_)) => "worked",
            Ok(Progress::Idle | Progress::Rest(_)) => "idle",
            Err(_) => "failed",
        };
        self.seconds.with_label_values(&[step, outcome]).observe(took.as_secs_f64());
    }
}

/// `tidemill_build_info{service,version}` and `tidemill_database_weak_tls{database}` (1 where somebody in
/// between could read or change what is sent).
pub(super) fn describe(
    registry: &Registry,
    service: &str,
    targets: &[std::sync::Arc<Target>],
) -> Result<(), prometheus::Error> {
    let build = IntGaugeVec::new(Opts::new("tidemill_build_info", "Always 1."), &["service", "version"])?;
    build.with_label_values(&[service, env!("CARGO_PKG_VERSION")]).set(1);
    registry.register(Box::new(build))?;
    let weak =
        Opts::new("tidemill_database_weak_tls", "1 if the connection does not prove who the server is.");
    let weak = IntGaugeVec::new(weak, &["database"])?;
    for target in targets {
        weak.with_label_values(&[target.name()]).set(i64::from(target.is_weak()));
    }
    registry.register(Box::new(weak))
}

/// Names that may become label values: the first `limit` different ones. The rest share the value `other`, so
/// that 100,000 queues do not make 100,000 series.
#[derive(Debug)]
pub struct LabelLimit {
    limit: usize,
    seen: Mutex<HashSet<String>>,
}

impl LabelLimit {
    /// The limit of the project: 2,000.
    #[must_use]
    pub fn new() -> Self {
        Self::with_limit(2_000)
    }

    /// Another limit.
    #[must_use]
    pub fn with_limit(limit: usize) -> Self {
        Self { limit, seen: Mutex::new(HashSet::new()) }
    }

    /// The name, or `other` if there are too many already.
    #[must_use]
    pub fn label<'n>(&self, name: &'n str) -> &'n str {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.contains(name) {
            return name;
        }
        if seen.len() >= self.limit {
            return "other";
        }
        seen.insert(name.to_owned());
        name
    }
}

impl Default for LabelLimit {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_bounded_and_stable() {
        let limit = LabelLimit::with_limit(2);
        assert_eq!((limit.label("a"), limit.label("b"), limit.label("c")), ("a", "b", "other"));
        assert_eq!((limit.label("a"), limit.label("d")), ("a", "other"));
    }
}
