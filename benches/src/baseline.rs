//! The baseline of the drains: the best that row churn can do. Two connections, each deleting a thousand jobs a
//! statement with SKIP LOCKED; no lease, no retry, no history.

use anyhow::Result;
use tidemill_common::db::Session;

use crate::measure::{Cost, Meter};
use crate::rig::Rig;

const DRAIN: &str = "with due as materialized (select id from job where run_at <= now() order by run_at, id \
                     limit 1000 for update skip locked) \
                     delete from job using due where job.id = due.id returning job.id, job.type, job.args::text";

/// Fills the table and drains it.
pub(crate) async fn drain(rig: &mut Rig, jobs: u64) -> Result<Cost> {
    rig.fill_table(jobs).await?;
    let meter = Meter::start(rig.cluster, &mut rig.session, &[std::process::id()]).await?;
    let (one, two) = (rig.db.session("tidemill-bench"), rig.db.session("tidemill-bench"));
    let (one, two) = tokio::try_join!(drain_on(one), drain_on(two))?;
    anyhow::ensure!(one + two == jobs, "drained {} of {jobs}", one + two);
    meter.stop(&mut rig.session, jobs).await
}

async fn drain_on(mut session: Session) -> Result<u64> {
    let mut drained = 0;
    loop {
        let rows = session.query("drain", DRAIN, &[]).await?;
        if rows.is_empty() {
            return Ok(drained);
        }
        drained += rows.len() as u64;
    }
}
