//! The triggers give, byte for byte, what those of the real PgQ give: the same statements run in two databases of one
//! server, one with the C extension, one with our schema, and the events (and the refusals) are compared.

mod random;
mod values;

use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tidemill_common::testing::{Cluster, ClusterOptions, TestDb};
use tokio_postgres::Client;

use crate::support::{all, run};

/// The folder with the programs of a server that has the extension.
fn server_with_pgq() -> PathBuf {
    let versions =
        std::fs::read_dir("/usr/share/postgresql").expect("looked at when this was built").flatten();
    let version = versions.map(|dir| dir.path()).find(|dir| dir.join("extension/pgq.control").exists());
    let version = version.expect("there when this was built");
    Path::new("/usr/lib/postgresql").join(version.file_name().expect("a version")).join("bin")
}

/// The two databases, with a queue `q` each.
struct Pair {
    theirs: Client,
    ours: Client,
    _databases: [TestDb; 2],
}

impl Pair {
    async fn new(cluster: &Cluster) -> Self {
        let databases = [cluster.empty_database().await, cluster.database().await];
        let (theirs, ours) = (databases[0].client().await, databases[1].client().await);
        run(&theirs, "create extension pgq").await;
        for client in [&theirs, &ours] {
            run(client, "select pgq.create_queue('q'); set client_min_messages = error").await;
        }
        Self { theirs, ours, _databases: databases }
    }

    /// Runs statements in both; what one refuses the other refuses with the same text.
    async fn run(&self, sql: &str) -> Result<(), String> {
        let answer = |client| {
            let run = Client::batch_execute(client, sql);
            async move {
                run.await.map_err(|error| match error.as_db_error() {
                    Some(refusal) => refusal.message().to_owned(),
                    None => panic!("{sql}: {}", tidemill_common::error_chain(&error)),
                })
            }
        };
        let theirs = answer(&self.theirs).await;
        assert_eq!(answer(&self.ours).await, theirs, "ours, PgQ's: {sql}");
        theirs
    }

    /// Compares all events and forgets them: how many there were.
    async fn compare(&self, of: &str) -> usize {
        let sql = "select row(ev_type, ev_data, ev_extra1, ev_extra2, ev_extra3, ev_extra4)::text \
                   from pgq.event_template order by ev_id";
        let (theirs, ours): (Vec<String>, Vec<String>) =
            (all(&self.theirs, sql).await, all(&self.ours, sql).await);
        for (theirs, ours) in theirs.iter().zip(&ours) {
            assert_eq!(ours, theirs, "ours, PgQ's: {of}");
        }
        assert_eq!(ours.len(), theirs.len(), "{of}");
        for client in [&self.theirs, &self.ours] {
            run(client, "truncate pgq.event_template").await;
        }
        ours.len()
    }
}

pub(crate) fn cluster() -> Cluster {
    let options = ClusterOptions { bin_dir: Some(server_with_pgq()), ..ClusterOptions::default() };
    Cluster::start_new(&options).expect("a server")
}

/// Every option with every format, before and after, with what it refuses; every type; the odd tables.
#[tokio::test]
#[cfg_attr(
    without_pgq_extension,
    ignore = "the real PgQ is not installed: `apt-get install postgresql-15-pgq3`"
)]
async fn known_cases() {
    let cluster = cluster();
    let pair = Pair::new(&cluster).await;
    let mut refusals = 0;
    for block in include_str!("cases.sql").split("\n\n") {
        refusals += usize::from(pair.run(block).await.is_err());
    }
    let events = pair.compare("cases.sql").await;
    assert!(events > 2500 && refusals >= 6, "{events} events, {refusals} refusals");
}

/// How many events of random cases are compared.
const EVENTS: usize = 1000;

/// Random tables, triggers and changes.
#[tokio::test]
#[cfg_attr(
    without_pgq_extension,
    ignore = "the real PgQ is not installed: `apt-get install postgresql-15-pgq3`"
)]
async fn random_cases() {
    let cluster = cluster();
    let pair = Pair::new(&cluster).await;
    run(&pair.theirs, values::TYPES).await;
    run(&pair.ours, values::TYPES).await;
    let first: u64 = rand::rng().random_range(0..1 << 40);
    let mut events = 0;
    for seed in first..first + 200 {
        let mut random = StdRng::seed_from_u64(seed);
        for sql in random::statements(&mut random) {
            // What is refused is refused by both.
            if pair.run(&sql).await.is_err() {
                pair.run("rollback").await.ok();
            }
        }
        events += pair.compare(&format!("seed {seed}")).await;
        if events >= EVENTS {
            return;
        }
    }
    panic!("{events} events");
}
