//! Metrics of the dispatcher, by names.md: `tidemill_dispatch_…`, `tidemill_work_…`, `tidemill_complete_…`.

use prometheus::{Gauge, GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::engine::{Answered, Counts, Micros};

/// All queues of the process.
#[derive(Debug, Clone)]
pub struct DispatchMetrics {
    ready: IntGaugeVec,
    paused: IntGaugeVec,
    limited: IntGaugeVec,
    parked: IntGaugeVec,
    oldest: GaugeVec,
    leased: IntGaugeVec,
    results: IntCounterVec,
    cancelled: IntCounterVec,
    owned: IntGaugeVec,
}

impl DispatchMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// A name is registered twice.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = |name: &str, help: &str| Opts::new(name.to_owned(), help.to_owned());
        let metrics = Self {
            ready: IntGaugeVec::new(
                opts("tidemill_dispatch_ready_jobs", "Ready jobs in the window."),
                &["queue"],
            )?,
            paused: IntGaugeVec::new(
                opts("tidemill_dispatch_paused_jobs", "Jobs in the window that are ready and paused."),
                &["queue"],
            )?,
            limited: IntGaugeVec::new(
                opts(
                    "tidemill_dispatch_limited_jobs",
                    "Jobs in the window that are ready and held back by limits.",
                ),
                &["queue"],
            )?,
            parked: IntGaugeVec::new(
                opts("tidemill_dispatch_parked_jobs", "Jobs parked until somebody asks for their type."),
                &["queue"],
            )?,
            oldest: GaugeVec::new(
                opts(
                    "tidemill_dispatch_oldest_ready_age_seconds",
                    "Age of the oldest ready job in the window.",
                ),
                &["queue"],
            )?,
            leased: IntGaugeVec::new(
                opts("tidemill_work_leased_jobs", "Jobs leased to workers."),
                &["queue"],
            )?,
            results: IntCounterVec::new(
                opts("tidemill_complete_results_total", "Results by what was answered."),
                &["queue", "outcome"],
            )?,
            cancelled: IntCounterVec::new(
                opts(
                    "tidemill_complete_cancelled_total",
                    "Jobs that cancellations ended, or told their handlers of.",
                ),
                &["queue", "how"],
            )?,
            owned: IntGaugeVec::new(
                opts("tidemill_dispatch_owned", "1 while this process owns the queue."),
                &["queue"],
            )?,
        };
        registry.register(Box::new(metrics.ready.clone()))?;
        registry.register(Box::new(metrics.paused.clone()))?;
        registry.register(Box::new(metrics.limited.clone()))?;
        registry.register(Box::new(metrics.parked.clone()))?;
        registry.register(Box::new(metrics.oldest.clone()))?;
        registry.register(Box::new(metrics.leased.clone()))?;
        registry.register(Box::new(metrics.results.clone()))?;
        registry.register(Box::new(metrics.cancelled.clone()))?;
        registry.register(Box::new(metrics.owned.clone()))?;
        Ok(metrics)
    }

    /// Those of one queue.
    #[must_use]
    pub fn of(&self, queue: &str) -> Metrics {
        Metrics {
            ready: self.ready.with_label_values(&[queue]),
            paused: self.paused.with_label_values(&[queue]),
            limited: self.limited.with_label_values(&[queue]),
            parked: self.parked.with_label_values(&[queue]),
            oldest: self.oldest.with_label_values(&[queue]),
            leased: self.leased.with_label_values(&[queue]),
            owned: self.owned.with_label_values(&[queue]),
            results: self.results.clone(),
            cancelled: self.cancelled.clone(),
            queue: queue.to_owned(),
        }
    }
}

/// The metrics of one queue.
#[derive(Debug, Clone)]
pub struct Metrics {
    ready: IntGauge,
    paused: IntGauge,
    limited: IntGauge,
    parked: IntGauge,
    oldest: Gauge,
    leased: IntGauge,
    owned: IntGauge,
    results: IntCounterVec,
    cancelled: IntCounterVec,
    queue: String,
}

impl Metrics {
    pub(crate) fn counts(&self, counts: &Counts, now: Micros) {
        self.ready.set(i64::try_from(counts.ready).unwrap_or(i64::MAX));
        self.leased.set(i64::try_from(counts.leased).unwrap_or(i64::MAX));
        self.paused.set(i64::try_from(counts.paused).unwrap_or(i64::MAX));
        self.limited.set(i64::try_from(counts.limited).unwrap_or(i64::MAX));
        self.parked.set(i64::try_from(counts.parked).unwrap_or(i64::MAX));
        let age = counts.oldest_ready.map_or(0, |oldest| (now.0 - oldest.0).max(0));
        self.oldest.set(age as f64 / 1e6);
        self.owned.set(1);
    }

    /// The queue is somebody else's now: its gauges are theirs to tell.
    pub(crate) fn lost(&self) {
        self.ready.set(0);
        self.leased.set(0);
        self.paused.set(0);
        self.limited.set(0);
        self.parked.set(0);
        self.oldest.set(0.0);
        self.owned.set(0);
    }

    pub(crate) fn answered(&self, answered: &Answered) {
        if let Answered::Cancelled { cancelled, told } = answered {
            for (how, count) in [("ended", cancelled), ("told", told)] {
                self.cancelled.with_label_values(&[self.queue.as_str(), how]).inc_by(*count);
            }
        }
        let (Answered::Grab { results, .. } | Answered::Results(results)) = answered else { return };
        // Nearly all of them are the same: each kind is looked up once.
        let mut left = results.as_slice();
        while let Some(first) = left.first() {
            let same = left.iter().take_while(|decided| decided.answer == first.answer).count();
            let counter = self.results.with_label_values(&[self.queue.as_str(), first.answer.as_str()]);
            counter.inc_by(same as u64);
            left = left.get(same..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_are_the_owners_to_tell() {
        let registry = Registry::new();
        let metrics = DispatchMetrics::new(&registry).unwrap().of("mail");
        let values = || {
            let families = registry.gather();
            let gauges = families.iter().filter_map(|family| {
                let value = family.get_metric().first()?.get_gauge().get_value();
                Some((family.name().to_owned(), value))
            });
            gauges.collect::<Vec<_>>()
        };
        let named = |[limited, oldest, owned, parked, paused, ready, leased]: [f64; 7]| {
            [
                ("tidemill_dispatch_limited_jobs", limited),
                ("tidemill_dispatch_oldest_ready_age_seconds", oldest),
                ("tidemill_dispatch_owned", owned),
                ("tidemill_dispatch_parked_jobs", parked),
                ("tidemill_dispatch_paused_jobs", paused),
                ("tidemill_dispatch_ready_jobs", ready),
                ("tidemill_work_leased_jobs", leased),
            ]
            .map(|(name, value)| (name.to_owned(), value))
        };
        let counts = Counts {
            ready: 3,
            leased: 4,
            paused: 6,
            limited: 7,
            parked: 5,
            oldest_ready: Some(Micros(1_000_000)),
            read_to: 1,
        };
        metrics.counts(&counts, Micros(3_500_000));
        assert_eq!(values(), named([7.0, 2.5, 1.0, 5.0, 6.0, 3.0, 4.0]));
        metrics.lost();
        assert_eq!(values(), named([0.0; 7]));
    }
}
