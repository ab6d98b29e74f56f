//! The whole flow, produce to complete, with every part a process of its own.

use std::time::Duration;

use anyhow::Result;
use tidemill_common::testing::{Cluster, TestDb};
use tidemill_e2e::{
    ledger::{Writers, rows},
    pipeline::Pipeline,
};

#[tokio::test(flavor = "multi_thread")]
async fn every_committed_row_is_applied_exactly_once() -> Result<()> {
    let pipeline = Pipeline::start(Cluster::shared(), 3).await?;
    let sources: Vec<_> = pipeline.sources.iter().map(TestDb::target).collect();
    let writers = Writers::start(&sources, 2, Duration::from_millis(5));
    for _ in 0..5 {
        pipeline.flows().await;
    }
    writers.stop().await?;
    let written = pipeline.settle().await?;
    assert!(rows(&written) > 0 && written.len() == 12, "three sources of four branches: {written:?}");
    Ok(())
}
