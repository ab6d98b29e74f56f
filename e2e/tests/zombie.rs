//! A dispatcher that is frozen beyond its term and wakes up: another one has its queue, so it writes nothing, and what
//! it gave out before is stale.

use std::time::Duration;

use anyhow::{Result, ensure};
use tidemill_common::testing::{Cluster, wait_for};
use tidemill_e2e::{
    api::lease,
    jobs::{Jobs, QUEUE},
};
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatcher_that_wakes_after_its_term_writes_nothing() -> Result<()> {
    let jobs = Jobs::start(Cluster::shared(), 2).await?;
    let (zombie, old_epoch) = jobs.owner().await;
    let (worker, id) = (jobs.client(zombie), |job: &serde_json::Value| job["id"].as_str().map(str::to_owned));
    let ids = worker.insert(QUEUE, (1..=3).map(|n| serde_json::json!({ "n": n }))).await?;

    // Two leases of the old owner: one that ends while it sleeps, and one that outlives the takeover.
    let short = worker.grab(QUEUE, 1, 2_000, 10_000).await?;
    let long = worker.grab(QUEUE, 1, 60_000, 10_000).await?;
    ensure!(short.len() == 1 && long.len() == 1, "two jobs: {short:?} {long:?}");

    jobs.dispatchers[zombie].stop();
    // These reach the kernel of a process that is frozen; it will read them when it wakes.
    let mut late = JoinSet::new();
    late.spawn({
        let worker = jobs.client(zombie);
        async move { worker.grab(QUEUE, 10, 60_000, 0).await }
    });
    let (heir, new_epoch) = wait_for("a takeover", Duration::from_secs(20), async || {
        let (owner, epoch) = jobs.owner().await;
        (owner != zombie).then_some((owner, epoch))
    })
    .await;
    ensure!(new_epoch > old_epoch, "epoch {new_epoch} after {old_epoch}");

    // The heir gives out the job whose lease has ended, and the one that nobody had.
    let second = jobs.client(heir);
    let mut taken = Vec::new();
    while taken.len() < 2 {
        let more = second.grab(QUEUE, 10, 60_000, 10_000).await?;
        ensure!(!more.is_empty(), "the heir gives out nothing more than {taken:?}");
        taken.extend(more);
    }
    let again = taken
        .iter()
        .find(|job| id(job) == id(&short[0]))
        .expect("the job whose lease ended is given out again");
    ensure!(again["reissued"] == true, "{again}");
    ensure!(taken.iter().all(|job| id(job) != id(&long[0])), "its lease has not ended: {taken:?}");
    let before = jobs.journal_rows(old_epoch).await?;
    ensure!(before > 0, "the old owner has written the leases");

    jobs.dispatchers[zombie].cont();
    // The lease that ended is stale, whoever is asked; the one that outlived the takeover is good, whoever is asked.
    ensure!(jobs.complete(&worker, lease(&short[0])).await? == "stale");
    ensure!(jobs.complete(&worker, lease(&long[0])).await? == "ok");
    for job in &taken {
        ensure!(jobs.complete(&second, lease(job)).await? == "ok", "{job}");
    }
    // A refusal or nothing: the zombie gave out none of what others have.
    while let Some(answer) = late.join_next().await {
        if let Ok(given) = answer? {
            ensure!(given.is_empty(), "the zombie gave out {given:?}");
        }
    }
    ensure!(jobs.journal_rows(old_epoch).await? == before, "the zombie has written into the journal");

    // It is not broken: what it is asked now it forwards.
    let more = worker.insert(QUEUE, [serde_json::json!({ "n": 4 })]).await?;
    let job = worker.grab(QUEUE, 10, 60_000, 10_000).await?;
    ensure!(job.len() == 1 && id(&job[0]).as_ref() == more.first(), "{job:?}");
    ensure!(jobs.complete(&worker, lease(&job[0])).await? == "ok");
    ensure!(ids.len() == 3);
    Ok(())
}
