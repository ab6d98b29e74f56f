//! Every program twice or more, as processes that die and come back in their places.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use tidemill_common::{
    db::{Session, Type},
    testing::{Cluster, Service, TestDb, wait_for},
};
use tidemill_e2e::pipeline::free_port;

pub(crate) const QUEUE: &str = "work";
/// Leases of one job.
pub(crate) const MAX_ATTEMPTS: i32 = 6;
/// Workers that tell the dispatcher, and workers that complete in their own transaction.
pub(crate) const PROGRAMS: [&str; 5] =
    ["chaos-worker", "chaos-worker", "chaos-worker", "chaos-ledger", "chaos-ledger"];
/// How long anything may take. On a quiet machine it is a second or two.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const BOOKS: &str = "
create table public.effect (
    job int8, attempt int4, epoch int8, number int8, worker uuid, primary key (job, epoch, number));
create table public.answer (job int8, epoch int8, number int8, outcome text, answer text);
create table public.ledger (job int8, epoch int8, number int8);
create index on public.ledger (job);
create table public.takeover (epoch int8 primary key, transaction int8);
create function public.keep_takeover() returns trigger language plpgsql as $$
begin
    insert into public.takeover values (new.epoch, pg_catalog.txid_current());
    return null;
end $$;
create trigger keep_takeover after update of epoch on tidemill.owner
    for each row when (new.epoch <> old.epoch) execute function public.keep_takeover();";

pub(crate) struct Fleet {
    pub(crate) cluster: Cluster,
    pub(crate) jobs: TestDb,
    settings: String,
    /// Where the dispatchers' APIs are.
    pub(crate) http: [SocketAddr; 2],
    pub(crate) dispatchers: Vec<Service>,
    pub(crate) tickers: Vec<Service>,
    pub(crate) workers: Vec<Service>,
}

impl Fleet {
    pub(crate) async fn start() -> Result<Fleet> {
        let cluster = Cluster::private();
        let jobs = cluster.database().await;
        let queue = format!(
            "select tidemill.create_job_queue('{QUEUE}', '{{\"max_attempts\": {MAX_ATTEMPTS}, \"backoff_cap_ms\": 1000}}')"
        );
        let mut session = jobs.session("tidemill-test");
        session.batch("make the queue", &queue).await?;
        session.batch("make the books", BOOKS).await?;
        let settings = format!(
            "[[databases]]\nname = \"jobs\"\nurl = \"{}\"\n[ticker]\nterm_ms = 1000\n[dispatcher]\nterm_ms = 600\n",
            jobs.url()
        );
        let mut fleet = Fleet {
            cluster,
            jobs,
            settings,
            http: [free_port()?, free_port()?],
            dispatchers: Vec::new(),
            tickers: Vec::new(),
            workers: Vec::new(),
        };
        for number in 0..2 {
            fleet.tickers.push(fleet.ticker()?);
            fleet.dispatchers.push(fleet.dispatcher(number, "")?);
        }
        for number in 0..PROGRAMS.len() {
            fleet.workers.push(fleet.worker(number)?);
        }
        Ok(fleet)
    }

    pub(crate) fn ticker(&self) -> Result<Service> {
        Service::spawn("tidemill-ticker", &self.settings, &[])
    }

    /// A dispatcher with failpoints, or none.
    pub(crate) fn dispatcher(&self, number: usize, failpoints: &str) -> Result<Service> {
        let listen = self.http[number].to_string();
        let environment = [("TIDEMILL_HTTP__LISTEN", &*listen), ("FAILPOINTS", failpoints)];
        Service::spawn("tidemill-dispatcher", &self.settings, &environment)
    }

    pub(crate) fn worker(&self, number: usize) -> Result<Service> {
        let urls = self.http.map(|address| format!("http://{address}"));
        Service::spawn_program(PROGRAMS[number], &[QUEUE, self.jobs.url(), &urls[0], &urls[1]], &[])
    }

    /// The number of the dispatcher that owns the queue now, and its epoch.
    pub(crate) async fn owner(&self) -> (usize, i64) {
        let mut session = self.jobs.session("tidemill-test");
        wait_for("an owner of the queue", PATIENCE, async || {
            let sql = "select address, epoch from tidemill.owner where until > clock_timestamp()";
            let row =
                retried(&mut session, async |s| s.query_opt("find the owner", sql, &[]).await).await??;
            let address: String = row.get(0);
            Some((self.http.iter().position(|http| address.ends_with(&http.to_string()))?, row.get(1)))
        })
        .await
    }

    /// Inserts a job and waits until a worker has it: every part of the pipeline works.
    pub(crate) async fn flows(&self) -> Result<()> {
        let mut session = self.jobs.session("tidemill-test");
        let insert = "select tidemill.insert_job($1, 'marker', '{}')::int8";
        let job = wait_for("room for a job", PATIENCE, async || {
            let row = retried(&mut session, async |s| {
                s.query_one("insert a marker", insert, &[(&QUEUE, Type::TEXT)]).await
            });
            Some(row.await?.get::<_, i64>(0))
        })
        .await;
        let look = "select exists (select from public.effect where job = $1)
                        or exists (select from public.ledger where job = $1)";
        wait_for("a job inserted now is worked on", PATIENCE, async || {
            let row = retried(&mut session, async |s| {
                s.query_one("look for the marker", look, &[(&job, Type::INT8)]).await
            });
            row.await?.get::<_, bool>(0).then_some(())
        })
        .await;
        Ok(())
    }

    /// Everybody, for the end of the logs.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, &Service)> {
        let named = |name| move |service| (name, service);
        let (dispatchers, tickers) = (self.dispatchers.iter(), self.tickers.iter());
        dispatchers
            .map(named("dispatcher"))
            .chain(tickers.map(named("ticker")))
            .chain(self.workers.iter().map(named("worker")))
    }
}

/// One call; after a failure the connection is opened anew the next time.
pub(crate) async fn retried<T>(
    session: &mut Session,
    call: impl AsyncFnOnce(&mut Session) -> Result<T, tidemill_common::db::DbError>,
) -> Option<T> {
    let answer = call(session).await;
    if answer.is_err() {
        session.close();
    }
    answer.ok()
}

/// Kills a process and waits for its end.
pub(crate) async fn kill(service: &mut Service) {
    service.kill9();
    service.wait_exit(PATIENCE).await;
}

impl Drop for Fleet {
    /// A test that fails shows how the parts saw it.
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (name, service) in self.all() {
                let log = service.log_text();
                let lines: Vec<&str> = log.lines().collect();
                eprintln!(
                    "--- the end of a {name}'s log:\n{}",
                    lines[lines.len().saturating_sub(8)..].join("\n")
                );
            }
        }
    }
}

/// For the books: everything in one go.
pub(crate) async fn rows(session: &mut Session, sql: &str) -> Result<Vec<tokio_postgres::Row>> {
    session.query("read the books", sql, &[]).await.context("read the books")
}
