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
    /// Which queues go where.
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
            routes: Vec::new(),
        }
    }
}

impl MoverSettings {
    pub(super) fn check(&self, errors: &mut Vec<String>) {
        super::positive(errors, "mover.batch_events", self.batch_events.into());
        super::positive(errors, "mover.batch_bytes", self.batch_bytes);
        if let Err(error) = self.consumer.parse::<crate::id::ConsumerName>() {
            errors.push(format!("mover.consumer: {error}"));
        }
        for (index, route) in self.routes.iter().enumerate() {
            if route.from.is_empty() || route.to.is_empty() {
                errors.push(format!("mover.routes[{index}] needs from and to"));
            }
        }
    }
}
