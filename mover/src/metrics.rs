//! What the mover tells Prometheus.

use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};
use tidemill_common::service::LabelLimit;

use crate::decide::Reason;

/// Metrics of all source queues.
#[derive(Debug)]
pub struct MoveMetrics {
    events: IntCounterVec,
    lag: GaugeVec,
    stopped: IntGaugeVec,
    limit: LabelLimit,
}

/// Metrics of one source queue.
#[derive(Debug)]
pub(crate) struct LineMetrics {
    /// Events committed in the destination.
    pub(crate) events: IntCounter,
    /// Age of the oldest tick that is not moved.
    pub(crate) lag: Gauge,
    stopped: IntGaugeVec,
    source: String,
    queue: String,
}

impl MoveMetrics {
    /// Metrics registered where Prometheus finds them.
    ///
    /// # Errors
    /// If one of the names is taken.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let labels = &["source", "queue"];
        let events = Opts::new("tidemill_move_events_total", "Events committed in the destination.");
        let events = IntCounterVec::new(events, labels)?;
        let lag = Opts::new(
            "tidemill_move_lag_seconds",
            "Age of the oldest tick of a source queue that is not moved.",
        );
        let lag = GaugeVec::new(lag, labels)?;
        let stopped =
            Opts::new("tidemill_move_stopped", "1 if the queue is not moved, by reason: a person must act.");
        let stopped = IntGaugeVec::new(stopped, &["source", "queue", "reason"])?;
        registry.register(Box::new(events.clone()))?;
        registry.register(Box::new(lag.clone()))?;
        registry.register(Box::new(stopped.clone()))?;
        Ok(Self { events, lag, stopped, limit: LabelLimit::new() })
    }

    pub(crate) fn line(&self, source: &str, queue: &str) -> LineMetrics {
        // Sources are settings; queues come from databases, so that they need the limit.
        let queue = match self.limit.label(&format!("{source}/{queue}")) {
            "other" => "other",
            _ => queue,
        };
        LineMetrics {
            events: self.events.with_label_values(&[source, queue]),
            lag: self.lag.with_label_values(&[source, queue]),
            stopped: self.stopped.clone(),
            source: source.to_owned(),
            queue: queue.to_owned(),
        }
    }
}

impl LineMetrics {
    /// Whether the queue is stopped, and why.
    pub(crate) fn set_stopped(&self, reason: Option<Reason>) {
        for each in Reason::ALL {
            let labels = [self.source.as_str(), self.queue.as_str(), each.label()];
            if Some(each) == reason {
                self.stopped.with_label_values(&labels).set(1);
            } else {
                // A series that is not there costs nothing; it was there only if it was set.
                drop(self.stopped.remove_label_values(&labels));
            }
        }
    }
}
