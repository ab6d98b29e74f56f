//! PostgreSQL stops at once, as if the machine had lost power, and starts again: the services go on by themselves.

use std::time::Duration;

use anyhow::Result;
use tidemill_common::testing::{Cluster, TestDb};
use tidemill_e2e::{
    ledger::Writers,
    pipeline::{Part, Pipeline},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_immediate_stop_and_start_loses_nothing() -> Result<()> {
    let cluster = Cluster::private();
    let mut pipeline = Pipeline::start(&cluster, 2).await?;
    let sources: Vec<_> = pipeline.sources.iter().map(TestDb::target).collect();
    let writers = Writers::start(&sources, 2, Duration::from_millis(5));
    for _ in 0..2 {
        pipeline.flows().await;
        cluster.stop_immediate()?;
        cluster.start()?;
    }
    pipeline.flows().await;
    writers.stop().await?;
    pipeline.settle().await?;
    for part in Part::ALL {
        assert!(
            pipeline.service(part).is_running(),
            "{part:?} ended:\n{}",
            pipeline.service(part).log_text()
        );
    }
    Ok(())
}
