//! A mover as one would write it in an afternoon, over the same typed calls: right, or wrong in one of the two
//! ways that the tests must notice.

use std::time::SystemTime;

use tidemill_common::db::{Row, Session, Type};
use tidemill_common::failpoint;
use tidemill_common::id::{ConsumerName, QueueName};
use tidemill_common::queue::mover::{
    Advance, Cursor, LeaseState, Moving, Next, OpenBatch, PageRange, advance_positions, finish_moved,
    hold_mover_lease, move_positions, move_target, next_move, read_move_page,
};
use uuid::Uuid;

use super::World;

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing: shows that a flaw, and not this file, is what a test notices.
    None,
    /// The position is looked at, and later set, without comparing.
    CheckThenAct,
    /// The same, and the source's batch is finished before the destination's commit.
    FinishFirst,
}

/// A mover of queue `ledger`, one batch after the other.
pub struct Naive {
    flaw: Flaw,
    lease: &'static str,
    holder: Uuid,
    consumer: ConsumerName,
    queue: QueueName,
    sources: Vec<Session>,
    destination: Session,
}

/// Stopped by a failpoint or a failure.
pub type Stopped = Box<dyn std::error::Error + Send + Sync>;

impl Naive {
    pub fn new(world: &World, flaw: Flaw, lease: &'static str) -> Self {
        Self {
            flaw,
            lease,
            // Its lease is not what is tested: whoever comes next has it still.
            holder: Uuid::from_u128(7),
            consumer: "tidemill.mover".parse().unwrap(),
            queue: "ledger".parse().unwrap(),
            sources: world.sources.iter().map(|source| source.db.session("naive")).collect(),
            destination: world.destination.db.session("naive"),
        }
    }

    /// Moves until nothing is left.
    pub async fn run(&mut self, world: &World) -> Result<(), Stopped> {
        while !world.is_finished().await {
            for source in 0..self.sources.len() {
                self.pass(source).await?;
            }
        }
        Ok(())
    }

    async fn pass(&mut self, source: usize) -> Result<(), Stopped> {
        let lease = hold_mover_lease(&mut self.destination, self.lease, self.holder, 60_000).await?;
        let cursor = Cursor { queue: &self.queue, consumer: &self.consumer, destination: lease.destination };
        let Next::Batch(open) = next_move(&mut self.sources[source], cursor, 1_000).await? else {
            return Ok(());
        };
        failpoint!("mover.taken", |why: String| Err(why.into()));
        let page = PageRange { after: None, limit: 100_000, bytes: i64::MAX };
        let rows = read_move_page(&mut self.sources[source], &open, page).await?;
        if self.flaw == Flaw::FinishFirst {
            self.finish(source, &open, &lease).await?;
        }
        self.commit(source, &open, &lease, &rows).await?;
        if self.flaw != Flaw::FinishFirst {
            self.finish(source, &open, &lease).await?;
        }
        Ok(())
    }

    async fn finish(&mut self, source: usize, open: &OpenBatch, lease: &LeaseState) -> Result<(), Stopped> {
        failpoint!("mover.finish", |why: String| Err(why.into()));
        let cursor = Cursor { queue: &self.queue, consumer: &self.consumer, destination: lease.destination };
        finish_moved(&mut self.sources[source], cursor, &open.batch).await?;
        failpoint!("mover.finished", |why: String| Err(why.into()));
        Ok(())
    }

    async fn commit(
        &mut self,
        source: usize,
        open: &OpenBatch,
        lease: &LeaseState,
        rows: &[Row],
    ) -> Result<(), Stopped> {
        let source = self.sources[source].database();
        let moving = Moving { source: &source, queue: &self.queue, to: &self.queue, batch: &open.batch };
        let mut tx = self.destination.begin("naive").await?;
        let known = move_positions(&mut tx, &[moving]).await?;
        let position = known[0].position.as_ref();
        if position.is_some_and(|position| position.at == open.batch.cur) {
            return Ok(());
        }
        failpoint!("mover.decided", |why: String| Err(why.into()));
        if self.flaw != Flaw::None {
            // As in Skytools' set_batch_done: two that looked at the same time both set it.
            let sql = "insert into tidemill.mover_position as p
                       select $1, 'ledger', 'ledger', $2, $3, $4, $5, timestamptz 'epoch' + $6 * interval '1 us', $7, 1
                       on conflict (source, queue) do update set tick_id = excluded.tick_id,
                           tick_time = excluded.tick_time, tick_snapshot = excluded.tick_snapshot";
            let (identity, cur) = (&open.batch.source, &open.batch.cur);
            tx.execute(
                "set position",
                sql,
                &[
                    (&&*source, Type::TEXT),
                    (&identity.system_identifier, Type::INT8),
                    (&identity.database_oid, Type::INT8),
                    (&identity.epoch.0, Type::INT8),
                    (&cur.tick.0, Type::INT8),
                    (&cur.time, Type::INT8),
                    (&cur.snapshot, Type::TEXT),
                ],
            )
            .await?;
        } else {
            let advance = Advance { n: 1, moving, open: position.is_none() };
            if advance_positions(&mut tx, self.lease, lease.epoch, &[advance]).await?.is_empty() {
                return Err("somebody else was faster".into());
            }
        }
        failpoint!("mover.advanced", |why: String| Err(why.into()));
        let target = move_target(&mut tx, &self.queue, 1).await?;
        for row in rows {
            let insert = format!(
                "insert into {} (ev_time, ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4) \
                 values ($1, $2, $3, $4, $5, $6, $7)",
                target.table
            );
            let time: SystemTime = row.try_get("ev_time")?;
            let text = |column: &str| row.try_get::<_, Option<String>>(column);
            tx.execute(
                "insert event",
                &insert,
                &[
                    (&time, Type::TIMESTAMPTZ),
                    (&text("ev_type")?, Type::TEXT),
                    (&text("ev_data")?, Type::TEXT),
                    (&text("ev_extra1")?, Type::TEXT),
                    (&text("ev_extra2")?, Type::TEXT),
                    (&text("ev_extra3")?, Type::TEXT),
                    (&text("ev_extra4")?, Type::TEXT),
                ],
            )
            .await?;
        }
        failpoint!("mover.copied", |why: String| Err(why.into()));
        failpoint!("mover.commit", |why: String| Err(why.into()));
        tx.commit().await?;
        failpoint!("mover.committed", |why: String| Err(why.into()));
        Ok(())
    }
}
