//! Inserts: a thousand jobs a statement, against a plain `insert … select` of the same jobs; and events, with a
//! doorbell, and against PgQ.

mod doorbell;
mod events;

use anyhow::Result;

use crate::measure::{Cost, Meter};
use crate::report;
use crate::rig::Rig;

pub(crate) async fn run(jobs: u64, rounds: usize) -> Result<()> {
    let mut rig = Rig::new().await?;
    let (mut queue, mut table) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let meter = Meter::start(rig.cluster, &mut rig.session, &[]).await?;
        rig.fill_queue(jobs).await?;
        rig.tick().await?;
        queue.push(meter.stop(&mut rig.session, jobs).await?);

        let meter = Meter::start(rig.cluster, &mut rig.session, &[]).await?;
        rig.fill_table(jobs).await?;
        table.push(meter.stop(&mut rig.session, jobs).await?);
    }
    report("insert, 1000 a statement", &Cost::sum(&queue), "plain table with one index", &Cost::sum(&table));
    doorbell::run(rounds).await?;
    events::run(rounds).await
}
