//! SIGTERM under load: nothing is lost, nothing is done twice, and every part leaves within its grace time.

use std::time::Duration;

use anyhow::{Result, ensure};
use tidemill_common::testing::{Cluster, TestDb};
use tidemill_e2e::{
    ledger::Writers,
    pipeline::{Part, Pipeline},
};

/// Shorter than Kubernetes' 30 s: what a part has after its drain time.
const GRACE: Duration = Duration::from_secs(28);

/// It has been asked to stop: it leaves in time and without an error.
async fn left(pipeline: &mut Pipeline, part: Part) -> Result<()> {
    let service = pipeline.service(part);
    let status = service.wait_exit(GRACE).await;
    ensure!(status.success(), "{part:?} ended with {status}:\n{}", service.log_text());
    Ok(())
}

/// No lease has ended without a result, so no job was given out twice.
async fn nothing_was_given_out_twice(pipeline: &Pipeline) -> Result<()> {
    let mut session = pipeline.jobs.session("tidemill-test");
    let rows = session
        .query("read the failures", "select job_id, reason, message from tidemill.failure", &[])
        .await?;
    let failures: Vec<(i64, String, String)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    ensure!(failures.is_empty(), "given out more than once: {failures:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_part_stops_under_load_and_its_successor_goes_on() -> Result<()> {
    let mut pipeline = Pipeline::start(Cluster::shared(), 2).await?;
    let sources: Vec<_> = pipeline.sources.iter().map(TestDb::target).collect();
    let writers = Writers::start(&sources, 2, Duration::from_millis(5));
    for part in Part::ALL {
        pipeline.flows().await;
        pipeline.service(part).sigterm();
        left(&mut pipeline, part).await?;
        pipeline.restart(part)?;
    }
    pipeline.flows().await;
    writers.stop().await?;
    pipeline.settle().await?;
    nothing_was_given_out_twice(&pipeline).await
}

#[tokio::test(flavor = "multi_thread")]
async fn all_parts_stop_at_once_and_all_go_on() -> Result<()> {
    let mut pipeline = Pipeline::start(Cluster::shared(), 2).await?;
    let sources: Vec<_> = pipeline.sources.iter().map(TestDb::target).collect();
    let writers = Writers::start(&sources, 2, Duration::from_millis(5));
    pipeline.flows().await;
    for part in Part::ALL {
        pipeline.service(part).sigterm();
    }
    for part in Part::ALL {
        left(&mut pipeline, part).await?;
    }
    for part in Part::ALL {
        pipeline.restart(part)?;
    }
    pipeline.flows().await;
    writers.stop().await?;
    pipeline.settle().await?;
    Ok(())
}
