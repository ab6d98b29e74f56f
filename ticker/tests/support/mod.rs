//! What the tests of the ticker share: a ticker driven by hand, metrics of a process, a network that breaks.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]
#![allow(dead_code, reason = "every test file uses a part of it")]

pub(crate) mod proxy;

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::Registry;
use tidemill_common::db::Session;
use tidemill_common::service::{Progress, Readiness, Shutdown, Step, Wake};
use tidemill_common::testing::{Service, TestDb, wait_for};
use tidemill_ticker::{Clusters, Database, Metrics, Operate, Promote, Rotate, Tick, Timing};
use tokio_postgres::Client;
use uuid::Uuid;

pub(crate) const TIMING: Timing = Timing {
    min: Duration::from_millis(5),
    max: Duration::from_millis(200),
    maintain: Duration::from_secs(10),
};

/// A ticker of one database, driven by hand.
pub(crate) struct Ticker {
    pub(crate) tick: Tick,
    pub(crate) promote: Promote,
    pub(crate) rotate: Rotate,
    pub(crate) operate: Operate,
    pub(crate) database: Arc<Database>,
    pub(crate) readiness: Readiness,
    pub(crate) shutdown: Shutdown,
    metrics: Registry,
}

impl Ticker {
    pub(crate) fn new(db: &TestDb, term: Duration) -> Self {
        Self::over(db.session("tidemill-ticker"), db.session("tidemill-ticker"), term)
    }

    pub(crate) fn over(session: Session, second: Session, term: Duration) -> Self {
        let (metrics, readiness, shutdown) = (Registry::new(), Readiness::default(), Shutdown::new());
        let measured = Metrics::new(&metrics).unwrap();
        let database = Arc::new(Database::new(session, Uuid::new_v4(), term, shutdown.clone()));
        let ready = readiness.condition("database");
        let clusters = Arc::new(Clusters::new(None));
        Self {
            tick: Tick::new(Arc::clone(&database), clusters, measured.clone(), ready, TIMING),
            promote: Promote::new(Arc::clone(&database)),
            rotate: Rotate::new(Arc::clone(&database), measured.clone(), TIMING.maintain),
            operate: Operate::new(Arc::clone(&database), second, measured, Duration::from_secs(1)),
            database,
            metrics,
            readiness,
            shutdown,
        }
    }

    /// The value of one series, such as `tidemill_tick_active{database="t0"}`.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let text = prometheus::TextEncoder::new().encode_to_string(&self.metrics.gather()).unwrap();
        value(&text, series)
    }

    /// Steps until a pass has worked.
    pub(crate) async fn works(&mut self) {
        wait_for("a tick", Duration::from_secs(5), async || {
            matches!(self.tick.step().await.unwrap(), Progress::Worked(_)).then_some(())
        })
        .await;
    }
}

fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

/// What a process serves at `/metrics`, or the value of one series there.
pub(crate) fn metrics(service: &Service) -> String {
    let mut stream = std::net::TcpStream::connect(service.admin_address()).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

pub(crate) fn metric(service: &Service, series: &str) -> Option<f64> {
    value(&metrics(service), series)
}

pub(crate) async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

pub(crate) async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
}

pub(crate) async fn text(client: &Client, sql: &str) -> String {
    client.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
}

/// Hears the ticks of one database.
pub(crate) struct Listener {
    _session: Session,
    wake: Wake,
}

impl Listener {
    pub(crate) async fn new(db: &TestDb) -> Self {
        let (mut session, wake) = (db.session("tidemill-test"), Wake::new());
        assert!(session.listen("tidemill_tick", wake.clone()).await.unwrap());
        Self { _session: session, wake }
    }

    /// From now until the tick's commit is announced.
    pub(crate) async fn next(&self, limit: Duration) -> Duration {
        let begun = Instant::now();
        let heard = tokio::time::timeout(limit, self.wake.woken()).await;
        assert!(heard.is_ok(), "no tick within {limit:?}");
        begun.elapsed()
    }
}

/// One `[[databases]]` entry.
pub(crate) fn entry(name: &str, url: &str) -> String {
    format!("[[databases]]\nname = \"{name}\"\nurl = \"{url}\"\n")
}
