//! Real PostgreSQL clusters and real binaries, for tests (and a private cluster for `tidemill demo`).
//!
//! Nothing started here outlives the process that started it, however that process ends.

pub mod cluster;
mod copy;
mod database;
mod find;
pub mod process;
mod watchdog;

pub use cluster::{Cluster, ClusterError, ClusterOptions};
pub use copy::Backup;
pub use database::TestDb;
pub use process::Service;

use std::time::Duration;

use tokio::time::Instant;

/// Asks again and again until there is an answer; panics with `what` if there is none in time. Arm whatever
/// makes the sign before calling this.
///
/// # Panics
/// If the deadline passes.
pub async fn wait_for<T, F>(what: &str, deadline: Duration, mut ask: F) -> T
where
    F: AsyncFnMut() -> Option<T>,
{
    let end = Instant::now() + deadline;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "{what}: not within {deadline:?}");
        #[expect(clippy::disallowed_methods, reason = "this is the one place where tests poll")]
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
