//! One cluster, one database, the same jobs for everybody.

use anyhow::Result;
use bytes::Bytes;
use serde_json::Value;
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
            ("max_connections", "200"),
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

    /// The same jobs by COPY into the event table, a thousand a transaction: transaction id first, then the table's
    /// name in a later statement.
    pub(crate) async fn copy_queue(&mut self, count: u64) -> Result<()> {
        let mut rows = String::new();
        for args in self.arguments(CHUNK.unsigned_abs().into()).await? {
            rows.push_str(&format!("now\tsend_email\t{args}\n"));
        }
        let rows = Bytes::from(rows);
        for _ in 0..count.div_ceil(CHUNK.unsigned_abs().into()) {
            let mut tx = self.session.begin("copy jobs").await?;
            tx.query("take the transaction id", "select pg_current_xact_id()", &[]).await?;
            let sql = format!("select pgq.current_event_table('{QUEUE}')");
            let table: String = tx.query_one("find the table", &sql, &[]).await?.try_get(0)?;
            let mut sink = tx
                .copy_in("copy jobs", &format!("copy {table} (ev_time, ev_type, ev_data) from stdin"))
                .await?;
            sink.send(rows.clone()).await?;
            sink.finish().await?;
            tx.commit().await?;
        }
        Ok(())
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

    /// The arguments of `count` jobs, as the other fills insert them.
    pub(crate) async fn arguments(&mut self, count: u64) -> Result<Vec<Value>> {
        let sql = format!("select e -> 'args' from jsonb_array_elements({JOBS}) e");
        let rows =
            self.session.query("make arguments", &sql, &[(&i32::try_from(count)?, Type::INT4)]).await?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
    }

    /// Gives the queue a doorbell, or takes it away.
    pub(crate) async fn set_doorbell(&mut self, doorbell: bool) -> Result<()> {
        let sql =
            format!("select tidemill.create_job_queue('{QUEUE}', jsonb_build_object('doorbell', $1::bool))");
        self.session.query("set the doorbell", &sql, &[(&doorbell, Type::BOOL)]).await?;
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
