//! A wake-up without content: it says "look", never "what".

use std::sync::Arc;

use tokio::sync::Notify;

/// Ends the idle wait of one loop. A wake-up during a pass is kept: another pass follows.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// A wake-up that nobody waits for yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says "look". Any number of calls before the next look are one.
    pub fn wake(&self) {
        self.0.notify_one();
    }

    /// Waits until somebody said "look" since the last time. For one waiter.
    pub async fn woken(&self) {
        self.0.notified().await;
    }
}
