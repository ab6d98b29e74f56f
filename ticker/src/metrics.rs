//! What the ticker measures.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use tidemill_common::queue::maintain::Blocked;
use tidemill_common::queue::tick::TickStatus;
use tidemill_common::service::{LabelLimit, SECONDS_BUCKETS};

/// The ticker's metrics; clones are the same ones.
#[derive(Debug, Clone)]
pub struct Metrics {
    events: IntCounterVec,
    failures: IntCounterVec,
    duration: HistogramVec,
    age: GaugeVec,
    active: IntGaugeVec,
    rotations: IntCounterVec,
    blocked: IntGaugeVec,
    queues: Arc<LabelLimit>,
    /// Whose ages are shown, so that those of a dropped queue, or of a database that another ticker serves, go.
    shown: Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// If a name is registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            events: IntCounterVec::new(
                Opts::new(
                    "tidemill_produce_events_total",
                    "Events that came into a queue, by its event sequence.",
                ),
                &["database", "queue"],
            )?,
            failures: IntCounterVec::new(
                Opts::new("tidemill_tick_failures_total", "Queues that could not be ticked in a pass."),
                &["database"],
            )?,
            duration: HistogramVec::new(
                HistogramOpts::new(
                    "tidemill_tick_duration_seconds",
                    "Time of one pass over all queues of a database.",
                )
                .buckets(SECONDS_BUCKETS.to_vec()),
                &["database"],
            )?,
            age: GaugeVec::new(
                Opts::new(
                    "tidemill_tick_age_seconds",
                    "Time since a queue's last tick; an idle queue ticks rarely.",
                ),
                &["database", "queue"],
            )?,
            active: IntGaugeVec::new(
                Opts::new("tidemill_tick_active", "1 if this process ticks the database, 0 if it stands by."),
                &["database"],
            )?,
            rotations: IntCounterVec::new(
                Opts::new("tidemill_maintain_rotations_total", "Event tables that were emptied."),
                &["database"],
            )?,
            blocked: IntGaugeVec::new(
                Opts::new(
                    "tidemill_maintain_blocked",
                    "Queues that are due for rotation and cannot, by reason.",
                ),
                &["database", "reason"],
            )?,
            queues: Arc::new(LabelLimit::new()),
            shown: Arc::default(),
        };
        registry.register(Box::new(metrics.events.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.age.clone()))?;
        registry.register(Box::new(metrics.active.clone()))?;
        registry.register(Box::new(metrics.rotations.clone()))?;
        registry.register(Box::new(metrics.blocked.clone()))?;
        Ok(metrics)
    }

    pub(crate) fn ticked(&self, database: &str, queue: &str, new_events: u64) {
        self.events.with_label_values(&[database, self.queues.label(queue)]).inc_by(new_events);
    }

    pub(crate) fn failed(&self, database: &str) {
        self.failures.with_label_values(&[database]).inc();
    }

    pub(crate) fn passed(&self, database: &str, took: Duration) {
        self.active.with_label_values(&[database]).set(1);
        self.duration.with_label_values(&[database]).observe(took.as_secs_f64());
    }

    pub(crate) fn stands_by(&self, database: &str) {
        self.active.with_label_values(&[database]).set(0);
        self.show(database, BTreeSet::new());
        for reason in Blocked::ALL {
            self.blocked.with_label_values(&[database, reason.as_str()]).set(0);
        }
    }

    /// Ages of the queues that are ticked here; of several that share the label `other`, the greatest.
    pub(crate) fn ages(&self, database: &str, status: &[TickStatus]) {
        let mut ages = BTreeMap::<&str, f64>::new();
        for queue in status.iter().filter(|queue| queue.ticking) {
            if let Some(age) = queue.age {
                let oldest = ages.entry(self.queues.label(&queue.queue)).or_default();
                *oldest = oldest.max(age.as_secs_f64());
            }
        }
        for (queue, age) in &ages {
            self.age.with_label_values(&[database, queue]).set(*age);
        }
        self.show(database, ages.into_keys().map(str::to_owned).collect());
    }

    fn show(&self, database: &str, queues: BTreeSet<String>) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let before = shown.remove(database).unwrap_or_default();
        for gone in before.difference(&queues) {
            // Only fails if it is not there, which is what is wanted.
            drop(self.age.remove_label_values(&[database, gone]));
        }
        if !queues.is_empty() {
            shown.insert(database.to_owned(), queues);
        }
    }

    pub(crate) fn rotated(&self, database: &str, rotated: u32, blocked: impl Fn(Blocked) -> i64) {
        self.rotations.with_label_values(&[database]).inc_by(u64::from(rotated));
        for reason in Blocked::ALL {
            self.blocked.with_label_values(&[database, reason.as_str()]).set(blocked(reason));
        }
    }
}
