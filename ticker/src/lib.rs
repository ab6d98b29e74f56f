//! The ticker: cuts the logs of many databases into batches.
//!
//! Per database four steps over one connection: [`Tick`] looks, and ticks every queue that has news; [`Promote`] puts
//! due jobs and retries back into the log, [`Rotate`] empties event tables that nobody needs, and [`Operate`] runs what
//! others asked for. One ticker works in a database at a time; others stand by and take over when its term ends. A
//! database that is slow or away delays only itself. Per server one [`Watch`] reads whether any transaction has
//! ended: while none has, no database of it is looked at.

mod cluster;
mod database;
mod doorbell;
mod errand;
mod memory;
mod metrics;
mod operate;
mod pace;
mod promote;
mod rotate;
mod tick;
mod trouble;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use tidemill_common::service::{self, BoxError, Context};

pub use cluster::{Cluster, Clusters, Member, Server};
pub use database::Database;
pub use metrics::Metrics;
pub use operate::Operate;
pub use promote::Promote;
pub use rotate::Rotate;
pub use tick::{Tick, Timing};
pub use trouble::Trouble;
pub use watch::Watch;

/// Registers the steps of every database named by `[ticker] databases`.
///
/// # Errors
/// A pattern that matches no database.
pub fn build(cx: &mut Context) -> Result<(), BoxError> {
    let settings = cx.settings.ticker.clone();
    let metrics = Metrics::new(&cx.metrics)?;
    let clusters = Arc::new(Clusters::new(Some(cx.tasks())));
    let min = Duration::from_millis(settings.min_interval_ms);
    let term = Duration::from_millis(settings.term_ms);
    let timing = Timing {
        min,
        // Often enough for a standby to see the end of a term soon.
        max: Duration::from_millis(settings.max_interval_ms).min(term / 4).max(min),
        maintain: Duration::from_millis(settings.maintain_interval_ms),
    };
    let operations = Duration::from_millis(settings.operations_interval_ms);
    // The steps say themselves how long they rest; what they never do is follow one another without a gap.
    let pace = |gap: Duration| service::Pace::every(timing.max).with_gap(gap);

    for target in cx.databases(&settings.databases)? {
        let database = Arc::new(Database::new(
            cx.session(&target).with_generic_plans(),
            cx.instance,
            term,
            cx.shutdown.clone(),
        ));
        let ready = cx.readiness().condition(&format!("database {}", target.name()));
        let tick = Tick::new(Arc::clone(&database), Arc::clone(&clusters), metrics.clone(), ready, timing);
        cx.run_on(tick, pace(min).with_woken_gap(doorbell::GAP.min(min)), database.wakes().tick.clone());
        cx.run_on(Promote::new(Arc::clone(&database)), pace(min), database.wakes().promote.clone());
        let rotate = Rotate::new(Arc::clone(&database), metrics.clone(), timing.maintain);
        cx.run_on(rotate, pace(Duration::from_millis(100)), database.wakes().rotate.clone());
        let session = cx.session(&target).with_deadline(operate::DEADLINE);
        let operate = Operate::new(Arc::clone(&database), session, metrics.clone(), operations);
        cx.run(operate, service::Pace::between(timing.max, operations));
        let shutdown = cx.shutdown.clone();
        cx.spawn(&format!("release[{}]", target.name()), async move {
            shutdown.wanted().await;
            database.release().await;
            Ok::<(), BoxError>(())
        });
    }
    Ok(())
}
