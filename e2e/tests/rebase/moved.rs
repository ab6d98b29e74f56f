//! A source database that a mover had moved from, and that went back: what the destination has does not come twice.

use std::time::Duration;

use tidemill_common::testing::{Cluster, Service, TestDb, wait_for};
use tokio_postgres::Client;

use crate::recovered::{caught_up, cut_off, primary, standby};
use crate::support::{elsewhere, insert, one, program, rebase, refused, run};

/// Source and destination: two databases of two servers, with a queue `q` each.
struct Route {
    origin: Cluster,
    source: TestDb,
    destination: TestDb,
}

impl Route {
    async fn new() -> Self {
        let (origin, far) = (elsewhere().await, Cluster::shared());
        let (source, destination) = (origin.database().await, far.database().await);
        for db in [&source, &destination] {
            run(&db.client().await, "select pgq.create_queue('q')").await;
        }
        Self { origin, source, destination }
    }

    fn settings(&self, source: &str) -> String {
        format!(
            "[[databases]]\nname = \"source\"\nurl = \"{source}\"\n\n\
             [[databases]]\nname = \"destination\"\nurl = \"{}\"\n\n\
             [ticker]\ndatabases = [\"source\"]\nterm_ms = 1000\n\n\
             [mover]\ndestination = \"destination\"\nsources = [\"source\"]\n\n\
             [[mover.routes]]\nfrom = \"q\"\nto = \"q\"\n",
            self.destination.url()
        )
    }

    /// Ticker and mover of this source.
    async fn services(&self, source: &str) -> [Service; 2] {
        let settings = self.settings(source);
        let ticker = Service::start("tidemill-ticker", &settings, &[]).await;
        let mover = Service::start("tidemill-mover", &settings, &[]).await;
        [ticker, mover].map(Result::unwrap)
    }

    /// Waits until the destination has this event, then says what it has: in order of arrival.
    async fn arrived(&self, last: &str) -> Vec<String> {
        let client = self.destination.client().await;
        let sql = "select coalesce(array_agg(ev_data order by ev_id), '{}') from pgq.event_1";
        wait_for("an event in the destination", Duration::from_secs(30), async || {
            let there: Vec<String> = one(&client, sql).await;
            there.iter().any(|data| data == last).then_some(there)
        })
        .await
    }

    /// Waits until the mover is registered; what is inserted from then on is moved.
    async fn registered(&self, client: &Client) {
        let sql = "select exists (select 1 from tidemill.moved_to)";
        wait_for("the mover", Duration::from_secs(30), async || one::<bool>(client, sql).await.then_some(()))
            .await;
        assert_eq!(self.source.name(), one::<String>(client, "select current_database()::text").await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_source_goes_on_where_its_destination_is() {
    let route = Route::new().await;
    let client = route.source.client().await;
    let [ticker, mover] = route.services(route.source.url()).await;
    route.registered(&client).await;
    insert(&client, &["e1", "e2"]).await;
    route.arrived("e2").await;
    // In the dump and not ticked; moved afterwards.
    drop(ticker);
    insert(&client, &["e3"]).await;
    let dump = route.origin.directory().join("dump").display().to_string();
    program(&route.origin, "pg_dump", route.source.name(), &["--format=custom", "--file", &dump]);
    let [ticker, second] = route.services(route.source.url()).await;
    insert(&client, &["e4"]).await;
    assert_eq!(route.arrived("e4").await, ["e1", "e2", "e3", "e4"]);
    drop((ticker, mover, second));

    let new = elsewhere().await;
    let restored = new.empty_database().await;
    program(&new, "pg_restore", restored.name(), &[&dump]);
    let client = restored.client().await;
    insert(&client, &["e5"]).await;
    refused(&client, "select tidemill.tick_pass()").await;
    let (code, _, said) =
        tidemill_e2e::pipeline::run("tidemill", &["queue", "rebase", "--database", restored.url()]).unwrap();
    assert_eq!(code, Some(1));
    assert!(said.contains("--destination"), "{said}");
    let said = rebase(restored.url(), &["--destination", route.destination.url()]);
    assert!(said.contains("1 positions carried over"), "{said}");
    let services = route.services(restored.url()).await;
    assert_eq!(route.arrived("e5").await, ["e1", "e2", "e3", "e4", "e5"]);
    insert(&client, &["e6"]).await;
    assert_eq!(route.arrived("e6").await, ["e1", "e2", "e3", "e4", "e5", "e6"]);
    drop(services);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_lost_ticks_goes_on_where_its_destination_is() {
    let route = Route::new().await;
    let client = route.source.client().await;
    let standby = standby(&route.origin, &[]).await;
    let [ticker, mover] = route.services(route.source.url()).await;
    route.registered(&client).await;
    insert(&client, &["e1"]).await;
    route.arrived("e1").await;
    drop(ticker);
    insert(&client, &["e2"]).await;
    caught_up(&client).await;
    cut_off(&standby).await;
    // The standby has e2 and not the tick that moved it, and never heard of the ghost.
    let [ticker, second] = route.services(route.source.url()).await;
    insert(&client, &["ghost"]).await;
    assert_eq!(route.arrived("ghost").await, ["e1", "e2", "ghost"]);
    drop((ticker, mover, second));
    route.origin.stop_immediate().unwrap();
    standby.promote().unwrap();

    let url = standby.url(route.source.name());
    let client = primary(&standby, &route.source).await;
    // It gets the ghost's number.
    insert(&client, &["e3"]).await;
    refused(&client, "select tidemill.tick_pass()").await;
    let said = rebase(&url, &["--destination", route.destination.url()]);
    assert!(said.contains("1 positions carried over"), "{said}");
    let services = route.services(&url).await;
    assert_eq!(route.arrived("e3").await, ["e1", "e2", "ghost", "e3"]);
    insert(&client, &["e4"]).await;
    assert_eq!(route.arrived("e4").await, ["e1", "e2", "ghost", "e3", "e4"]);
    drop(services);
}
