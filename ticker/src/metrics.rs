//! What the ticker measures.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use tidemill_common::queue::maintain::Blocked;
use tidemill_common::queue::tick::TickStatus;
use tidemill_common::service::{LabelLimit, SECONDS_BUCKETS};
use tokio::time::Instant;

use crate::trouble::Trouble;

/// The ticker's metrics; clones are the same ones.
#[derive(Debug, Clone)]
pub struct Metrics {
    events: IntCounterVec,
    failures: IntCounterVec,
    duration: HistogramVec,
    active: IntGaugeVec,
    rotations: IntCounterVec,
    blocked: IntGaugeVec,
    operations: IntCounterVec,
    unreplicated: IntCounterVec,
    trouble: IntGaugeVec,
    troubled: Arc<Mutex<HashMap<String, Trouble>>>,
    queues: Arc<LabelLimit>,
    last_ticks: Arc<Mutex<LastTicks>>,
}

/// When each queue was ticked last, by database and label: those of a dropped queue, or of a database that another
/// ticker serves, go.
type LastTicks = HashMap<String, BTreeMap<String, Instant>>;

/// The ages of the last ticks. They grow without anybody looking: they are counted when they are asked for.
struct Ages {
    gauge: GaugeVec,
    last_ticks: Arc<Mutex<LastTicks>>,
}

impl Collector for Ages {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.gauge.reset();
        for (database, queues) in &*lock(&self.last_ticks) {
            for (queue, last) in queues {
                self.gauge.with_label_values(&[database, queue]).set(last.elapsed().as_secs_f64());
            }
        }
        self.gauge.collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
            operations: IntCounterVec::new(
                Opts::new(
                    "tidemill_maintain_operation_failures_total",
                    "Functions that others asked the ticker to run, and that failed.",
                ),
                &["database"],
            )?,
            unreplicated: IntCounterVec::new(
                Opts::new(
                    "tidemill_tick_unreplicated_total",
                    "Passes committed without the synchronous standby, because the wait for it was cancelled.",
                ),
                &["database"],
            )?,
            trouble: IntGaugeVec::new(
                Opts::new(
                    "tidemill_tick_trouble",
                    "1 while a database cannot be looked at or ticked, by reason.",
                ),
                &["database", "reason"],
            )?,
            troubled: Arc::default(),
            queues: Arc::new(LabelLimit::new()),
            last_ticks: Arc::default(),
        };
        let gauge = GaugeVec::new(
            Opts::new(
                "tidemill_tick_age_seconds",
                "Time since a queue's last tick; an idle queue ticks rarely.",
            ),
            &["database", "queue"],
        )?;
        registry.register(Box::new(Ages { gauge, last_ticks: Arc::clone(&metrics.last_ticks) }))?;
        registry.register(Box::new(metrics.events.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.active.clone()))?;
        registry.register(Box::new(metrics.rotations.clone()))?;
        registry.register(Box::new(metrics.blocked.clone()))?;
        registry.register(Box::new(metrics.operations.clone()))?;
        registry.register(Box::new(metrics.unreplicated.clone()))?;
        registry.register(Box::new(metrics.trouble.clone()))?;
        Ok(metrics)
    }

    pub(crate) fn ticked(&self, database: &str, queue: &str, new_events: u64) {
        let queue = self.queues.label(queue);
        self.events.with_label_values(&[database, queue]).inc_by(new_events);
        if let Some(shown) = lock(&self.last_ticks).get_mut(database) {
            shown.insert(queue.to_owned(), Instant::now());
        }
    }

    /// Whether so many queues are all of this database.
    pub(crate) fn knows(&self, database: &str, queues: usize) -> bool {
        lock(&self.last_ticks).get(database).is_some_and(|shown| shown.len() == queues)
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
        lock(&self.last_ticks).remove(database);
        for reason in Blocked::ALL {
            self.blocked.with_label_values(&[database, reason.as_str()]).set(0);
        }
    }

    /// What is in the way of ticks; `None`: nothing is any more.
    pub(crate) fn trouble(&self, database: &str, trouble: Option<Trouble>) {
        let mut troubled = lock(&self.troubled);
        if troubled.get(database).copied() == trouble {
            return;
        }
        if let Some(over) = troubled.remove(database) {
            // Only fails if it is not there, which is what is wanted.
            drop(self.trouble.remove_label_values(&[database, over.as_str()]));
        }
        if let Some(trouble) = trouble {
            self.trouble.with_label_values(&[database, trouble.as_str()]).set(1);
            troubled.insert(database.to_owned(), trouble);
        }
    }

    pub(crate) fn unreplicated(&self, database: &str) {
        self.unreplicated.with_label_values(&[database]).inc();
    }

    pub(crate) fn operation_failed(&self, database: &str) {
        self.operations.with_label_values(&[database]).inc();
    }

    /// When the queues were ticked that are ticked here; of several that share the label `other`, the oldest.
    pub(crate) fn ages(&self, database: &str, status: &[TickStatus]) {
        let now = Instant::now();
        let mut last_ticks = BTreeMap::<String, Instant>::new();
        for queue in status.iter().filter(|queue| queue.ticking) {
            if let Some(last) = queue.age.and_then(|age| now.checked_sub(age)) {
                let oldest = last_ticks.entry(self.queues.label(&queue.queue).to_owned()).or_insert(last);
                *oldest = (*oldest).min(last);
            }
        }
        lock(&self.last_ticks).insert(database.to_owned(), last_ticks);
    }

    pub(crate) fn rotated(&self, database: &str, rotated: u32, blocked: impl Fn(Blocked) -> usize) {
        self.rotations.with_label_values(&[database]).inc_by(u64::from(rotated));
        for reason in Blocked::ALL {
            let count = i64::try_from(blocked(reason)).unwrap_or(i64::MAX);
            self.blocked.with_label_values(&[database, reason.as_str()]).set(count);
        }
    }
}
