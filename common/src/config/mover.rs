//! `[mover]`.

use serde::{Deserialize, Serialize};

/// The mover: from where to where.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MoverSettings {
    /// Name of the database the events go to.
    pub destination: Option<String>,
    /// Names or patterns of the databases they come from.
    pub sources: Vec<String>,
    /// The consumer registered on each source queue.
    pub consumer: String,
    /// Most events in one destination transaction.
    pub batch_events: u32,
    /// Most bytes of events in one destination transaction.
    pub batch_bytes: u64,
    /// Most bytes of events on the way, in all.
    pub buffer_bytes: u64,
    /// How long a mover that has gone keeps others from taking over.
    pub term_ms: u64,
    /// How long the destination remembers which source event an event was, in seconds.
    pub origin_keep_s: u64,
    /// Which queues go where; the first route that matches a queue counts.
    pub routes: Vec<Route>,
}

/// Source queues and the queue their events go to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Route {
    /// Name or pattern of source queues.
    pub from: String,
    /// Destination queue; `*`: the queue of the same name.
    pub to: String,
}

impl Default for MoverSettings {
    fn default() -> Self {
        Self {
            destination: None,
            sources: Vec::new(),
            consumer: "tidemill.mover".to_owned(),
            batch_events: 10_000,
            batch_bytes: 8 * 1024 * 1024,
            buffer_bytes: 256 * 1024 * 1024,
            term_ms: 3_000,
            origin_keep_s: 7 * 24 * 3600,
            routes: Vec::new(),
        }
    }
}

impl MoverSettings {
    pub(super) fn check(&self, errors: &mut Vec<String>) {
        super::positive(errors, "mover.batch_events", self.batch_events.into());
        super::positive(errors, "mover.batch_bytes", self.batch_bytes);
        super::ordered(
            errors,
            ("mover.batch_events", self.batch_events.into()),
            ("the most events", 1_000_000),
        );
        super::ordered(
            errors,
            ("mover.batch_bytes", self.batch_bytes),
            ("mover.buffer_bytes", self.buffer_bytes),
        );
        // Below this, one slow answer of the database loses the lease.
        super::ordered(errors, ("the least mover.term_ms", 500), ("mover.term_ms", self.term_ms));
        super::ordered(errors, ("mover.term_ms", self.term_ms), ("the longest term in ms", 600_000));
        super::ordered(
            errors,
            ("mover.origin_keep_s", self.origin_keep_s),
            ("ten years in seconds", 315_360_000),
        );
        if let Err(error) = self.consumer.parse::<crate::id::ConsumerName>() {
            errors.push(format!("mover.consumer: {error}"));
        }
        for (index, route) in self.routes.iter().enumerate() {
            if route.from.is_empty() || route.to.is_empty() {
                errors.push(format!("mover.routes[{index}] needs from and to"));
            } else if route.to != "*" && route.to.parse::<crate::id::QueueName>().is_err() {
                errors.push(format!(
                    "mover.routes[{index}]: to = \"{}\" is neither \"*\" nor a queue name",
                    route.to
                ));
            }
        }
    }
}
