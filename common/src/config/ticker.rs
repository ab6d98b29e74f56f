//! `[ticker]`.

use serde::{Deserialize, Serialize};

/// The ticker: which databases, and how often.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TickerSettings {
    /// Names or patterns of the databases to tick.
    pub databases: Vec<String>,
    /// Shortest time between two looks at a database, while there is traffic.
    pub min_interval_ms: u64,
    /// Longest time between two looks at an idle database of a busy server.
    pub max_interval_ms: u64,
    /// Time between two attempts to rotate a queue that is due.
    pub maintain_interval_ms: u64,
    /// Time between two rounds of what others ask a ticker to run: `queue_extra_maint`, Londiste, vacuum.
    pub operations_interval_ms: u64,
    /// How long a ticker that has gone keeps others from taking over.
    pub term_ms: u64,
}

impl Default for TickerSettings {
    fn default() -> Self {
        Self {
            databases: vec!["*".to_owned()],
            min_interval_ms: 5,
            max_interval_ms: 200,
            maintain_interval_ms: 10_000,
            operations_interval_ms: 120_000,
            term_ms: 2_500,
        }
    }
}

impl TickerSettings {
    pub(super) fn check(&self, errors: &mut Vec<String>) {
        super::positive(errors, "ticker.min_interval_ms", self.min_interval_ms);
        super::positive(errors, "ticker.maintain_interval_ms", self.maintain_interval_ms);
        super::positive(errors, "ticker.operations_interval_ms", self.operations_interval_ms);
        super::ordered(
            errors,
            ("ticker.min_interval_ms", self.min_interval_ms),
            ("ticker.max_interval_ms", self.max_interval_ms),
        );
        super::ordered(
            errors,
            ("ticker.max_interval_ms", self.max_interval_ms),
            ("ticker.term_ms", self.term_ms),
        );
    }
}
