//! Brings the queues of many databases into a few queues of one, exactly once.
//!
//! ```text
//! source ── next_move, read_move_page ──▶ ReadSource ── parcels ──▶ WriteDestination ── one transaction ──▶ destination
//!    ▲                                        │  ▲                        │              positions (CAS), events, origins
//!    └──────────── finish_moved ──────────────┘  └────── verdicts ────────┘
//! ```
//!
//! The position of a source queue is committed together with its events, in the destination, by
//! compare-and-swap on where it stood before. Whatever is killed, whenever, the next attempt asks the source
//! for the open batch and the destination for the position, and [`decide::decide`] says what is left to do.
//! No transaction spans two servers, and none is open at a source while anything is waited for.

mod copy;
pub mod decide;
mod destination;
mod error;
mod ids;
mod lease;
mod line;
mod metrics;
mod page;
mod parcel;
mod prune;
mod read;
mod routes;
mod source;
mod write;

use std::sync::Arc;
use std::time::Duration;

use tidemill_common::config::{ConfigError, Settings};
use tidemill_common::db::{Session, Target};
use tidemill_common::id::ConsumerName;
use tidemill_common::service::{BoxError, Context, Pace, Wake};
use tokio::sync::mpsc;
use uuid::Uuid;

pub use destination::Committed;
pub use error::MoveError;
pub use lease::{Held, HoldLease, Lease};
pub use metrics::MoveMetrics;
pub use page::Page;
pub use prune::PruneOrigins;
pub use read::{ReadSource, Reading};
pub use routes::Routes;
pub use source::PageSize;
pub use write::{GroupSize, Outbox, WriteDestination, Writers};

/// Parcels of one transaction at most.
const GROUP_PARCELS: usize = 256;
/// Pages of one parcel that are in memory at once: with the writer, in the channel, being read.
const PAGES_PER_PARCEL: u64 = 3;
/// Readers are woken by ticks and verdicts; the pace covers what nobody says.
const READ_PACE: Pace = Pace::between_ms(20, 1_000);
const WRITE_PACE: Pace = Pace::between_ms(500, 2_000);
const PRUNE_PACE: Pace = Pace::every(Duration::from_secs(60));

/// Registers the steps of a mover: one reader per source, two writers, the lease and the pruning.
///
/// # Errors
/// [`ConfigError`] with a sentence that names the key; an error of a metric that is registered twice.
pub fn build(cx: &mut Context) -> Result<(), BoxError> {
    let settings = Arc::clone(&cx.settings);
    let settings = &settings.mover;
    let destination = destination(&cx.settings)?;
    let sources = sources(cx, &destination)?;
    let routes = Routes::new(&settings.routes)?;
    let consumer: ConsumerName = settings.consumer.parse()?;

    let lease = Lease::new(consumer.clone());
    let page = PageSize {
        events: i32::try_from(settings.batch_events)?,
        bytes: i64::try_from(settings.batch_bytes)?,
    };
    let group = GroupSize {
        parcels: GROUP_PARCELS,
        events: usize::try_from(settings.batch_events)?,
        bytes: usize::try_from(settings.batch_bytes)?,
    };
    let room = usize::try_from((settings.buffer_bytes / settings.batch_bytes / PAGES_PER_PARCEL).max(1))?;
    let writers = Writers::new([cx.session(&destination), cx.session(&destination)], &lease, group, room);

    let reading = Reading {
        consumer,
        routes: Arc::new(routes),
        page,
        lease: lease.clone(),
        outbox: writers.outbox,
        metrics: Arc::new(MoveMetrics::new(&cx.metrics)?),
    };
    let mut readers = Vec::new();
    for source in &sources {
        let wake = Wake::new();
        readers.push(wake.clone());
        cx.run_on(ReadSource::new(cx.session(source), reading.clone(), wake.clone()), READ_PACE, wake);
    }

    // Writers hold it until their loops have ended: then the lease can be given back.
    let (writing, written) = mpsc::channel(1);
    cx.run_on(writers.small.until(writing.clone()), WRITE_PACE, writers.small_wake);
    cx.run_on(writers.large.until(writing), WRITE_PACE, writers.large_wake);
    release_at_the_end(cx, cx.session(&destination), lease.clone(), written);

    cx.run(
        PruneOrigins {
            session: cx.session(&destination),
            lease: lease.clone(),
            keep_s: i32::try_from(settings.origin_keep_s)?,
        },
        PRUNE_PACE,
    );
    let reached = cx.readiness().condition(&format!("destination {}", destination.name()));
    let (session, term) = (cx.session(&destination), Duration::from_millis(settings.term_ms));
    cx.run(
        HoldLease::new(session, lease, cx.instance, term, readers).telling(reached),
        Pace::every(term / 3),
    );
    Ok(())
}

fn destination(settings: &Settings) -> Result<Arc<Target>, ConfigError> {
    let Some(name) = &settings.mover.destination else {
        return Err(ConfigError::sentence(
            "mover.destination is missing: the database that events are moved into",
        ));
    };
    settings.target(name).cloned().ok_or_else(|| {
        ConfigError::sentence(format!(
            "mover.destination = \"{name}\", but no database of this name is configured"
        ))
    })
}

/// The sources. What matches a pattern by accident must not be moved in a circle: never the destination.
fn sources(cx: &Context, destination: &Arc<Target>) -> Result<Vec<Arc<Target>>, ConfigError> {
    let mut sources = cx.databases(&cx.settings.mover.sources)?;
    sources.retain(|source| source.name() != destination.name());
    if sources.is_empty() {
        return Err(ConfigError::sentence(
            "mover.sources names no database but the destination: list those that are moved from, such as [\"shard*\"]",
        ));
    }
    if cx.settings.mover.routes.is_empty() {
        return Err(ConfigError::sentence(
            "mover.routes is empty: [[mover.routes]] with from = \"queue\" and to = \"queue\" says which queue goes where",
        ));
    }
    Ok(sources)
}

/// When both writers have ended, gives the lease back.
fn release_at_the_end(cx: &mut Context, mut session: Session, lease: Lease, mut written: mpsc::Receiver<()>) {
    let (shutdown, holder): (_, Uuid) = (cx.shutdown.clone(), cx.instance);
    cx.spawn("release_lease", async move {
        shutdown.wanted().await;
        // Nothing is ever sent: it ends when the last writer does.
        while written.recv().await.is_some() {}
        if lease.held().is_some()
            && let Err(error) = lease::release(&mut session, &lease, holder).await
        {
            tracing::warn!(error = %tidemill_common::error_chain(&error), "lease not given back: it ends by itself");
        }
        Ok::<(), BoxError>(())
    });
}
