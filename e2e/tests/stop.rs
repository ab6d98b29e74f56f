//! SIGTERM under load: nothing is lost, nothing is done twice, and every part leaves within its grace time.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidemill_common::testing::{Cluster, TestDb, wait_for};
use tidemill_e2e::{
    api::lease,
    jobs::{Jobs, QUEUE},
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
    Ok(())
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

/// Leases outlive the dispatcher that gave them: its successor takes their results, and gives none of them out again.
#[tokio::test(flavor = "multi_thread")]
async fn a_dispatcher_that_stops_leaves_its_leases_to_its_successor() -> Result<()> {
    let mut jobs = Jobs::start(Cluster::shared(), 2).await?;
    let (owner, _) = jobs.owner().await;
    let heir = 1 - owner;
    let (worker, other) = (jobs.client(owner), jobs.client(heir));
    worker.insert(QUEUE, (0..100).map(|n| json!({ "n": n }))).await?;
    let held = worker.grab(QUEUE, 50, 60_000, 10_000).await?;

    jobs.dispatchers[owner].sigterm();
    let status = jobs.dispatchers[owner].wait_exit(GRACE).await;
    ensure!(status.success(), "ended with {status}:\n{}", jobs.dispatchers[owner].log_text());

    let id = |job: &Value| job["id"].as_str().unwrap_or_default().to_owned();
    let ids: BTreeSet<String> = held.iter().map(id).collect();
    let mut rest = Vec::new();
    wait_for("the successor to give out the rest", Duration::from_secs(30), async || {
        rest.extend(other.grab(QUEUE, 100, 60_000, 1_000).await.unwrap_or_default());
        (rest.len() + held.len() >= 100).then_some(())
    })
    .await;
    let others: BTreeSet<String> = rest.iter().map(id).collect();
    ensure!(
        others.is_disjoint(&ids) && others.len() + ids.len() == 100,
        "given out twice: {others:?} and {ids:?}"
    );
    ensure!(rest.iter().all(|job| job["reissued"] == false && job["attempt"] == 1), "{rest:?}");

    let worker = worker.at(jobs.api(heir));
    for job in held.iter().chain(&rest) {
        ensure!(jobs.complete(&worker, lease(job)).await? == "ok", "{job}");
    }
    ensure!(other.grab(QUEUE, 100, 60_000, 0).await?.is_empty(), "nothing is left");
    Ok(())
}
