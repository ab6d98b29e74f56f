//! `[dispatcher]`.

use serde::{Deserialize, Serialize};

/// The dispatcher: which job queues, and how much of them at a time.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DispatcherSettings {
    /// Names or patterns of the databases to serve.
    pub databases: Vec<String>,
    /// Names or patterns of the job queues to serve.
    pub queues: Vec<String>,
    /// How long a dispatcher that has gone keeps others from taking its queues over.
    pub term_ms: u64,
    /// Most jobs of one queue held in memory.
    pub window_jobs: u32,
    /// Most bytes of jobs of one queue held in memory.
    pub window_bytes: u64,
}

impl Default for DispatcherSettings {
    fn default() -> Self {
        Self {
            databases: vec!["*".to_owned()],
            queues: vec!["*".to_owned()],
            term_ms: 1_500,
            window_jobs: 50_000,
            window_bytes: 64 * 1024 * 1024,
        }
    }
}

impl DispatcherSettings {
    pub(super) fn check(&self, errors: &mut Vec<String>) {
        // Below this, one slow answer of the database loses the queue.
        super::ordered(errors, ("the least dispatcher.term_ms", 500), ("dispatcher.term_ms", self.term_ms));
        super::positive(errors, "dispatcher.window_jobs", self.window_jobs.into());
        super::positive(errors, "dispatcher.window_bytes", self.window_bytes);
    }
}
