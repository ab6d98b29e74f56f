//! SIGKILL of each part under load: every event is applied exactly once all the same.

use std::time::Duration;

use anyhow::Result;
use tidemill_common::testing::{Cluster, TestDb};
use tidemill_e2e::{
    ledger::Writers,
    pipeline::{Part, Pipeline},
};

async fn killed_twice(part: Part) -> Result<()> {
    let mut pipeline = Pipeline::start(Cluster::shared(), 2).await?;
    let sources: Vec<_> = pipeline.sources.iter().map(TestDb::target).collect();
    let writers = Writers::start(&sources, 2, Duration::from_millis(5));
    for _ in 0..2 {
        pipeline.flows().await;
        // Of the two dispatchers, the one that matters.
        let part =
            if let Part::Dispatcher(_) = part { Part::Dispatcher(pipeline.owner().await) } else { part };
        pipeline.service(part).kill9();
        pipeline.service(part).wait_exit(Duration::from_secs(5)).await;
        pipeline.restart(part)?;
    }
    pipeline.flows().await;
    writers.stop().await?;
    pipeline.settle().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ticker() -> Result<()> {
    killed_twice(Part::Ticker).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mover() -> Result<()> {
    killed_twice(Part::Mover).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dispatcher_that_owns_the_queue() -> Result<()> {
    killed_twice(Part::Dispatcher(0)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worker() -> Result<()> {
    killed_twice(Part::Worker).await
}

#[tokio::test(flavor = "multi_thread")]
async fn all_at_once() -> Result<()> {
    let mut pipeline = Pipeline::start(Cluster::shared(), 2).await?;
    let sources: Vec<_> = pipeline.sources.iter().map(TestDb::target).collect();
    let writers = Writers::start(&sources, 2, Duration::from_millis(5));
    pipeline.flows().await;
    for part in Part::ALL {
        pipeline.service(part).kill9();
    }
    for part in Part::ALL {
        pipeline.service(part).wait_exit(Duration::from_secs(5)).await;
        pipeline.restart(part)?;
    }
    pipeline.flows().await;
    writers.stop().await?;
    pipeline.settle().await?;
    Ok(())
}
