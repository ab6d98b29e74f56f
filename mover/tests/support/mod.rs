//! Sources, a destination, a mover whose steps run in the test, and the ledger that counts every event.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests")]

pub mod mutant;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use prometheus::{Registry, TextEncoder};
use tidemill_common::config::Route;
use tidemill_common::db::{Session, Target, TargetOptions};
use tidemill_common::service::{Progress, Step, StepError, Wake};
use tidemill_common::testing::{Cluster, TestDb, wait_for};
use tidemill_mover::{
    GroupSize, HoldLease, Lease, MoveMetrics, PageSize, ReadSource, Reading, Routes, WriteDestination,
    Writers,
};
use tokio_postgres::Client;
use uuid::Uuid;

pub const SOON: Duration = Duration::from_secs(20);

/// A database with a client of the test's own.
pub struct Db {
    pub db: TestDb,
    pub sql: Client,
}

impl Db {
    pub async fn new(cluster: &Cluster) -> Self {
        let db = cluster.database().await;
        let sql = db.client().await;
        Self { db, sql }
    }

    pub async fn create_queue(&self, queue: &str) {
        self.sql.execute("select pgq.create_queue($1)", &[&queue]).await.unwrap();
    }

    /// Registers the mover before anything is produced, as an operator would.
    pub async fn create_source_queue(&self, queue: &str) {
        self.create_queue(queue).await;
        self.sql.execute("select pgq.register_consumer($1, 'tidemill.mover')", &[&queue]).await.unwrap();
    }

    /// One transaction of `count` events, whose content says where they come from.
    pub async fn produce(&self, queue: &str, count: i64) {
        let insert =
            "select pgq.insert_event($1, 'type ' || i % 3, current_database() || '/' || $1 || ' ' || i,
                             case when i % 2 = 0 then 'extra ä' end, null, '', i::text)
                        from generate_series(1, $2::bigint) i";
        self.sql.execute(insert, &[&queue, &count]).await.unwrap();
    }

    pub async fn tick(&self, queue: &str) {
        self.sql.execute("select pgq.force_tick($1)", &[&queue]).await.unwrap();
        self.sql.execute("select pgq.ticker($1)", &[&queue]).await.unwrap();
    }

    pub async fn produce_and_tick(&self, queue: &str, count: i64) {
        self.produce(queue, count).await;
        self.tick(queue).await;
    }

    /// Everything in a queue, in order of id: the content without the id.
    pub async fn events(&self, queue: &str) -> Vec<String> {
        let table = format!(
            "select concat_ws('|', ev_time, coalesce(ev_type, '-'), coalesce(ev_data, '-'), coalesce(ev_extra1, '-'),
                    coalesce(ev_extra2, '-'), coalesce(ev_extra3, '-'), coalesce(ev_extra4, '-'))
               from {} order by ev_id",
            self.table(queue).await
        );
        self.sql.query(&table, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }

    pub async fn table(&self, queue: &str) -> String {
        let row =
            self.sql.query_one("select queue_data_pfx from pgq.queue where queue_name = $1", &[&queue]).await;
        row.unwrap().get(0)
    }

    pub async fn one<T>(&self, sql: &str) -> T
    where
        T: for<'r> tokio_postgres::types::FromSql<'r>,
    {
        self.sql.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Where the mover's consumer stands: cursor, open batch.
    pub async fn cursor(&self, queue: &str) -> (i64, Option<i64>) {
        let row = self
            .sql
            .query_one(
                "select sub_last_tick, sub_batch from pgq.subscription s join pgq.queue q on queue_id = sub_queue
                   join pgq.consumer c on co_id = sub_consumer
                  where queue_name = $1 and co_name = 'tidemill.mover'",
                &[&queue],
            )
            .await
            .unwrap();
        (row.get(0), row.get(1))
    }

    /// True if the mover has finished everything that was ticked.
    pub async fn is_finished(&self, queue: &str) -> bool {
        let last: i64 = self
            .sql
            .query_one("select max(tick_id) from pgq.tick t join pgq.queue q on queue_id = tick_queue where queue_name = $1", &[&queue])
            .await
            .unwrap()
            .get(0);
        self.cursor(queue).await == (last, None)
    }
}

/// Some sources and the destination. Queue `ledger` of each goes into `ledger`, unless routes say otherwise.
pub struct World {
    pub sources: Vec<Db>,
    pub destination: Db,
    pub routes: Vec<(&'static str, &'static str)>,
    /// Role that the mover connects as.
    pub user: &'static str,
}

impl World {
    pub async fn new(sources: usize) -> Self {
        let cluster = Cluster::shared();
        let mut world = Self {
            sources: Vec::new(),
            destination: Db::new(cluster).await,
            routes: vec![("ledger", "ledger")],
            user: "postgres",
        };
        for _ in 0..sources {
            let source = Db::new(cluster).await;
            source.create_source_queue("ledger").await;
            world.sources.push(source);
        }
        world.destination.create_queue("ledger").await;
        world
    }

    /// A session of the mover.
    pub fn session(&self, db: &Db) -> Session {
        let url = db.db.url().replace("://postgres@", &format!("://{}@", self.user));
        let target = Target::parse(db.db.name(), &url, &TargetOptions::default()).unwrap();
        Session::new(Arc::new(target), "tidemill-mover")
    }

    pub async fn produce_and_tick(&self, count: i64) {
        for source in &self.sources {
            source.produce_and_tick("ledger", count).await;
        }
    }

    pub async fn is_finished(&self) -> bool {
        for source in &self.sources {
            if !source.is_finished("ledger").await {
                return false;
            }
        }
        true
    }

    /// What is wrong with the destination: events of `ledger` that are missing, there twice, changed or out of
    /// order. `None`: every event of every source is there exactly once, untouched, in its source's order.
    pub async fn fault(&self) -> Option<String> {
        let mut moved: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for event in self.destination.events("ledger").await {
            moved.entry(origin(&event)).or_default().push(event);
        }
        for source in &self.sources {
            let sent = source.events("ledger").await;
            let got = moved.remove(source.db.name()).unwrap_or_default();
            if sent != got {
                let (lost, twice) = difference(&sent, &got);
                return Some(format!(
                    "{}: {lost} lost, {twice} too many of {}",
                    source.db.name(),
                    sent.len()
                ));
            }
        }
        (!moved.is_empty()).then(|| format!("from nowhere: {:?}", moved.keys()))
    }

    pub async fn assert_exact(&self) {
        assert_eq!(self.fault().await, None);
        self.assert_origins().await;
    }

    /// Every moved event leads back to its source event.
    async fn assert_origins(&self) {
        let table = self.destination.table("ledger").await;
        let rows = self
            .destination
            .sql
            .query(&format!("select o.source, o.event_id, e.ev_data from {table} e left join lateral tidemill.event_origin('ledger', e.ev_id) o on true"), &[])
            .await
            .unwrap();
        let mut content: BTreeMap<(String, i64), String> = BTreeMap::new();
        for source in &self.sources {
            let table = source.table("ledger").await;
            for row in source.sql.query(&format!("select ev_id, ev_data from {table}"), &[]).await.unwrap() {
                content.insert((source.db.name().to_owned(), row.get(0)), row.get(1));
            }
        }
        for row in rows {
            let (source, id, data): (Option<String>, Option<i64>, String) =
                (row.get(0), row.get(1), row.get(2));
            let found = content.get(&(source.unwrap(), id.unwrap()));
            assert_eq!(found, Some(&data));
        }
    }
}

/// The database that an event's content names.
fn origin(event: &str) -> String {
    let data = event.split('|').nth(2).unwrap_or_default();
    data.split('/').next().unwrap_or_default().to_owned()
}

/// How many events are missing, and how many are too many.
fn difference(sent: &[String], got: &[String]) -> (i64, i64) {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    sent.iter().for_each(|event| *counts.entry(event).or_default() += 1);
    got.iter().for_each(|event| *counts.entry(event).or_default() -= 1);
    (counts.values().filter(|n| **n > 0).sum(), -counts.values().filter(|n| **n < 0).sum::<i64>())
}

/// Sizes of a mover under test.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub page: PageSize,
    pub group: GroupSize,
    pub room: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            page: PageSize { events: 1_000, bytes: 1 << 20 },
            group: GroupSize { parcels: 64, events: 10_000, bytes: 8 << 20 },
            room: 16,
        }
    }
}

/// A mover whose steps run in the test. Dropping it is a crash: nothing is said good-bye to.
pub struct Mover {
    pub lease: Lease,
    pub hold: HoldLease,
    pub readers: Vec<ReadSource>,
    pub small: WriteDestination,
    pub large: WriteDestination,
    pub registry: Registry,
}

impl Mover {
    pub fn new(world: &World) -> Self {
        Self::with(world, "tidemill.mover", Uuid::from_u128(1), Sizes::default())
    }

    /// `lease` is the name of the lease: two names are two movers that do not know of each other.
    pub fn with(world: &World, lease: &str, holder: Uuid, sizes: Sizes) -> Self {
        let lease = Lease::new(lease.parse().unwrap());
        let session = || world.session(&world.destination);
        let writers = Writers::new([session(), session()], &lease, sizes.group, sizes.room);
        let registry = Registry::new();
        let routes: Vec<Route> = world
            .routes
            .iter()
            .map(|(from, to)| Route { from: (*from).to_owned(), to: (*to).to_owned() })
            .collect();
        let reading = Reading {
            consumer: "tidemill.mover".parse().unwrap(),
            routes: Arc::new(Routes::new(&routes).unwrap()),
            page: sizes.page,
            lease: lease.clone(),
            outbox: writers.outbox,
            metrics: Arc::new(MoveMetrics::new(&registry).unwrap()),
        };
        let reader = |source: &Db| ReadSource::new(world.session(source), reading.clone(), Wake::new());
        let readers = world.sources.iter().map(reader).collect();
        let hold = HoldLease::new(session(), lease.clone(), holder, Duration::from_secs(5), Vec::new());
        Self { lease, hold, readers, small: writers.small, large: writers.large, registry }
    }

    /// Runs all steps until the condition holds. An error of any step ends it, whatever the others are at.
    pub async fn run_until(
        &mut self,
        what: &str,
        condition: impl AsyncFn() -> bool,
    ) -> Result<(), StepError> {
        let readers = self.readers.iter_mut().map(|reader| Box::pin(drive(reader)));
        let held = wait_for(what, SOON, async || condition().await.then_some(()));
        tokio::select! {
            error = Box::pin(drive(&mut self.hold)) => Err(error),
            error = Box::pin(drive(&mut self.small)) => Err(error),
            error = Box::pin(drive(&mut self.large)) => Err(error),
            (error, _, _) = select_all(readers) => Err(error),
            () = held => Ok(()),
        }
    }

    /// Like [`Mover::run_until`], with steps that go on after an error, as the drive loop does.
    pub async fn persist_until(&mut self, what: &str, condition: impl AsyncFn() -> bool) {
        let readers = self.readers.iter_mut().map(|reader| Box::pin(persist(reader)));
        let held = wait_for(what, SOON, async || condition().await.then_some(()));
        tokio::select! {
            () = Box::pin(persist(&mut self.hold)) => {}
            () = Box::pin(persist(&mut self.small)) => {}
            () = Box::pin(persist(&mut self.large)) => {}
            _ = select_all(readers) => {}
            () = held => {}
        }
    }

    /// Moves everything that is ticked.
    pub async fn finish(&mut self, world: &World) {
        let finished = self.run_until("everything moved", async || world.is_finished().await).await;
        finished.unwrap_or_else(|error| panic!("{}", tidemill_common::error_chain(error.source())));
    }

    /// All metrics as Prometheus reads them.
    pub fn metrics(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap()
    }
}

async fn drive<S: Step>(step: &mut S) -> StepError {
    loop {
        match step.step().await {
            Ok(Progress::Worked(_)) => tokio::task::yield_now().await,
            Ok(Progress::Idle | Progress::Rest(_)) => pause().await,
            Err(error) => return error,
        }
    }
}

#[expect(clippy::print_stdout, reason = "shown if the test fails")]
async fn persist<S: Step>(step: &mut S) {
    loop {
        match step.step().await {
            Ok(Progress::Worked(_)) => tokio::task::yield_now().await,
            Ok(Progress::Idle | Progress::Rest(_)) => pause().await,
            Err(error) => {
                println!("{} {}: {}", S::NAME, step.label(), tidemill_common::error_chain(error.source()));
                pause().await;
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "stands for the drive loop")]
async fn pause() {
    tokio::time::sleep(Duration::from_millis(3)).await;
}
