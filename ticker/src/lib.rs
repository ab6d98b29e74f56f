//! The ticker: cuts the logs of many databases into batches.
//!
//! Per database three steps over one connection: [`Tick`] ticks every queue that has news, [`Promote`] puts due jobs
//! and retries back into the log, [`Rotate`] empties event tables that nobody needs. One ticker is active per
//! database; others stand by and take over when its term ends. A database that is slow or away delays only itself.

mod database;
mod metrics;
mod promote;
mod rotate;
mod tick;

use std::sync::Arc;
use std::time::Duration;

use tidemill_common::service::{BoxError, Context, Pace};

pub use database::Database;
pub use metrics::Metrics;
pub use promote::Promote;
pub use rotate::Rotate;
pub use tick::Tick;

/// Registers the steps of every database named by `[ticker] databases`.
///
/// # Errors
/// A pattern that matches no database.
pub fn build(cx: &mut Context) -> Result<(), BoxError> {
    let settings = cx.settings.ticker.clone();
    let metrics = Metrics::new(&cx.metrics)?;
    let min = Duration::from_millis(settings.min_interval_ms);
    let term = Duration::from_millis(settings.term_ms);
    // Often enough to prolong the term in time, and for a standby to see its end soon.
    let max = Duration::from_millis(settings.max_interval_ms).min(term / 4).max(min);
    let maintain = Duration::from_millis(settings.maintain_interval_ms);
    let locked = Duration::from_secs(1).min(maintain);

    for target in cx.databases(&settings.databases)? {
        let database = Arc::new(Database::new(cx.session(&target), cx.instance, term, cx.shutdown.clone()));
        let ready = cx.readiness().condition(&format!("database {}", target.name()));
        let tick = Tick::new(Arc::clone(&database), metrics.clone(), ready);
        let wake = cx.run(tick, Pace::between(min, max).with_gap(min));
        cx.run(
            Promote::new(Arc::clone(&database), wake),
            Pace::between(min.max(Duration::from_millis(20)).min(max), max),
        );
        let rotate = Rotate::new(Arc::clone(&database), metrics.clone());
        cx.run(rotate, Pace::between(locked, maintain).with_gap(locked));
        let shutdown = cx.shutdown.clone();
        cx.spawn(&format!("release[{}]", target.name()), async move {
            shutdown.wanted().await;
            database.release().await;
            Ok::<(), BoxError>(())
        });
    }
    Ok(())
}
