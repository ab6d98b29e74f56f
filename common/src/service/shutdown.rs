//! The one wish to stop that everything in a process shares.

use tokio_util::sync::CancellationToken;

/// Whether the process (or one loop in it) should stop. Clones share the wish; it is never taken back.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// Nobody wants to stop yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Wants everything that holds a clone to stop taking work, finish what it has, and end.
    pub fn begin(&self) {
        self.0.cancel();
    }

    /// Whether stopping is wanted.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until stopping is wanted.
    pub async fn wanted(&self) {
        self.0.cancelled().await;
    }

    /// Stops with this one, and can be stopped alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }
}
