//! What the databases say about the run: how far every stage is, and at the end every branch.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Result;
use futures_util::future::try_join_all;
use tidemill_common::db::{Session, Target};

use super::{
    progress::Counts,
    sources::session,
    verify::{Applied, Branch, Verdict, Written},
};

/// One look at all databases.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Look {
    pub counts: Counts,
    /// Jobs in the waiting room: leased, waiting for a retry, or delayed.
    pub waiting: i64,
    /// Dead letters: in the demonstration no job may fail for good.
    pub dead: i64,
    /// Events that a consumer of the sources or of the job queue has not finished, or that no tick covers.
    pub unfinished: i64,
}

impl Look {
    /// Nothing is on its way any more: all is done that was produced.
    pub(super) fn is_done(&self) -> bool {
        let Look { counts, waiting, dead: _, unfinished } = self;
        counts.done >= counts.produced && *waiting == 0 && *unfinished == 0
    }
}

/// Rows written; and by the event sequence, which may have gaps: events that no tick covers, and events after the
/// mover's cursor.
const SOURCE: &str = "
select (select count(*) from public.pgbench_history), q.seq - t.tick_event_seq, q.seq - coalesce(c.tick_event_seq, 0)
  from (select queue_id, coalesce(pg_sequence_last_value(queue_event_seq::regclass), 0) as seq
          from pgq.queue where queue_name = 'ledger') q
 cross join lateral (select tick_event_seq from pgq.tick where tick_queue = q.queue_id order by tick_id desc limit 1) t
  left join lateral (select t.tick_event_seq
                       from pgq.subscription s join pgq.tick t on t.tick_queue = s.sub_queue and t.tick_id = s.sub_last_tick
                      where s.sub_queue = q.queue_id limit 1) c on true";

const JOBS: &str = "
select (select coalesce(sum(applied), 0)::int8 from public.branch_balance),
       (select count(*) from tidemill.waiting),
       (select count(*) from tidemill.waiting where kind = 'leased'),
       (select count(*) from tidemill.dead),
       (select coalesce(sum(pending_events), 0)::int8 from pgq.get_consumer_info())
         + (select coalesce(sum(ev_new), 0)::int8 from pgq.get_queue_info())";

pub(super) struct Watch {
    sources: Vec<(String, Session)>,
    jobs: Session,
}

impl Watch {
    pub(super) fn new(sources: &[Arc<Target>], jobs: &Arc<Target>) -> Watch {
        let sources = sources.iter().map(|target| (target.name().to_owned(), session(target))).collect();
        Watch { sources, jobs: session(jobs) }
    }

    /// How far every stage is. Counts the rows of the histories: right, whatever was rolled back.
    pub(super) async fn look(&mut self) -> Result<Look> {
        let sources = self.sources.iter_mut().map(|(_, source)| async move {
            let row = source.query_one("look at a source", SOURCE, &[]).await?;
            anyhow::Ok((row.get::<_, i64>(0), row.get::<_, i64>(1).max(0), row.get::<_, i64>(2).max(0)))
        });
        let (sources, jobs) =
            tokio::join!(try_join_all(sources), self.jobs.query_one("look at the jobs", JOBS, &[]));
        let (sources, jobs) = (sources?, jobs?);
        let mut look = Look::default();
        for (rows, not_ticked, not_moved) in sources {
            look.counts.produced += rows;
            look.counts.ticked += (rows - not_ticked).max(0);
            look.counts.moved += (rows - not_moved).max(0);
            look.unfinished += not_moved;
        }
        look.counts.done = jobs.get(0);
        look.waiting = jobs.get(1);
        look.counts.dispatched = look.counts.done + jobs.get::<_, i64>(2);
        look.dead = jobs.get(3);
        look.unfinished += jobs.get::<_, i64>(4);
        Ok(look)
    }

    /// Every branch: what was written, what was applied.
    pub(super) async fn verdict(&mut self) -> Result<Verdict> {
        const WRITTEN: &str = "
            select b.bid, b.bbalance::int8, count(h.bid)
              from public.pgbench_branches b left join public.pgbench_history h on h.bid = b.bid
             group by b.bid, b.bbalance";
        const APPLIED: &str = "select source, bid, balance, applied from public.branch_balance";
        let mut written = BTreeMap::new();
        for (source, session) in &mut self.sources {
            for row in session.query("read the branches", WRITTEN, &[]).await? {
                let branch = Branch { source: source.clone(), bid: row.get(0) };
                written.insert(branch, Written { balance: row.get(1), rows: row.get(2) });
            }
        }
        let mut applied = BTreeMap::new();
        for row in self.jobs.query("read the balances", APPLIED, &[]).await? {
            let branch = Branch { source: row.get(0), bid: row.get(1) };
            applied.insert(branch, Applied { balance: row.get(2), rows: row.get(3) });
        }
        Ok(Verdict::new(written, applied))
    }
}
