//! One cluster, one database, the same jobs for everybody.

use anyhow::Result;
use tidemill_common::db::{Session, Type};
use tidemill_common::testing::{Cluster, ClusterOptions, TestDb};

/// A cluster that flushes to disk as in production, and nothing else in it.
pub(crate) struct Rig {
    pub(crate) cluster: &'static Cluster,
    pub(crate) db: TestDb,
    pub(crate) session: Session,
}

/// The queue that is drained.
pub(crate) const QUEUE: &str = "bench";
/// Jobs of one insert.
const CHUNK: i32 = 1000;

impl Rig {
    pub(crate) async fn new() -> Result<Self> {
        // Vacuum and checkpoints would strike one side of a comparison or the other, by chance.
        let settings = [
            ("shared_buffers", "256MB"),
            ("max_wal_size", "4GB"),
            ("checkpoint_timeout", "1h"),
            ("autovacuum", "off"),
        ];
        let options = ClusterOptions {
            durable: true,
            settings: settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..ClusterOptions::default()
        };
        let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start_new(&options)?));
        let db = cluster.database().await;
        let mut session = db.session("tidemill-bench");
        session.query("create queue", "select tidemill.create_job_queue('bench')", &[]).await?;
        session
            .batch(
                "create baseline",
                "create table job (id bigint generated always as identity primary key, type text not null, \
                 args jsonb not null, run_at timestamptz not null default now()); \
                 create index job_run_at on job (run_at, id)",
            )
            .await?;
        Ok(Self { cluster, db, session })
    }

    /// Puts `count` jobs with 110-byte arguments into the job queue, a thousand a statement. Nobody sees them before
    /// the next tick.
    pub(crate) async fn fill_queue(&mut self, count: u64) -> Result<()> {
        self.fill(count, &format!("select count(*) from tidemill.insert_jobs('{QUEUE}', {JOBS})")).await
    }

    /// The same jobs into the baseline's table, which is empty as a vacuum would leave it at best.
    pub(crate) async fn fill_table(&mut self, count: u64) -> Result<()> {
        self.session.batch("empty the table", "truncate job").await?;
        let rows = format!("select e ->> 'type', e -> 'args' from jsonb_array_elements({JOBS}) e");
        self.fill(count, &format!("insert into job (type, args) {rows}")).await
    }

    async fn fill(&mut self, count: u64, sql: &str) -> Result<()> {
        for _ in 0..count.div_ceil(CHUNK.unsigned_abs().into()) {
            self.session.query("fill", sql, &[(&CHUNK, Type::INT4)]).await?;
        }
        Ok(())
    }

    /// Cuts a tick.
    pub(crate) async fn tick(&mut self) -> Result<()> {
        self.session.query("tick", "select * from tidemill.tick_pass()", &[]).await?;
        Ok(())
    }
}

/// `$1` jobs as JSON: arguments of 110 bytes.
const JOBS: &str = "(select jsonb_agg(jsonb_build_object('type', 'send_email', 'args', jsonb_build_object(\
                    'to', lpad(n::text, 40, 'x') || '@example.org', 'subject', repeat('s', 34)))) \
                    from generate_series(1, $1) n)";
