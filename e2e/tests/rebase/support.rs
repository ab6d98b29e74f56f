//! A queue with consumers in every state, and what each of them has still to get.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

use std::process::Command;

use tidemill_common::testing::Cluster;
use tidemill_e2e::pipeline;
use tokio_postgres::types::FromSqlOwned;
use tokio_postgres::{Client, NoTls};

/// What the scene's consumers have not had: an ordinary one with an open batch and a retried event, one that never read,
/// and a group of two, one of whose members has a batch open.
pub(crate) const FAST: &[&str] = &["a1", "b1", "b2", "c1"];
pub(crate) const SLOW: &[&str] = &["a1", "a2", "a3", "b1", "b2", "c1"];
pub(crate) const TEAM: &[&str] = &["a1", "a2", "a3", "c1"];

pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "ends with its client")]
    tokio::spawn(connection);
    client
}

pub(crate) async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

pub(crate) async fn one<T: FromSqlOwned>(client: &Client, sql: &str) -> T {
    client.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
}

async fn all(client: &Client, sql: &str) -> Vec<String> {
    let rows = client.query(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    rows.iter().map(|row| row.get(0)).collect()
}

pub(crate) async fn tick(client: &Client) {
    run(client, "select tidemill.tick_pass()").await;
}

pub(crate) async fn insert(client: &Client, data: &[&str]) {
    for data in data {
        run(client, &format!("select pgq.insert_event('q', 't', '{data}')")).await;
    }
}

/// Uses transaction ids up.
pub(crate) async fn age(client: &Client, transactions: u32) {
    let sql = format!(
        "do $$ begin for i in 1..{transactions} loop perform txid_current(); commit; end loop; end $$"
    );
    run(client, &sql).await;
}

/// The queue `q`: three ticks with events, and `c1` that no tick has seen.
pub(crate) async fn scene(client: &Client) {
    run(client, "select pgq.create_queue('q')").await;
    tick(client).await;
    run(client, "select pgq.register_consumer('q', 'fast'), pgq.register_consumer('q', 'slow')").await;
    for member in ["a", "b"] {
        run(client, &format!("select pgq_coop.register_subconsumer('q', 'team', '{member}')")).await;
    }
    insert(client, &["a1", "a2"]).await;
    // An event of a savepoint: its row's transaction is not the one it carries.
    run(client, "begin; savepoint s; select pgq.insert_event('q', 't', 'a3'); commit").await;
    tick(client).await;
    insert(client, &["b1", "b2"]).await;
    tick(client).await;

    let batch: i64 = one(client, "select pgq.next_batch('q', 'fast')").await;
    run(client, &format!("select pgq.event_retry({batch}, 1, 0); select pgq.finish_batch({batch})")).await;
    run(client, "select pgq.next_batch('q', 'fast'), pgq_coop.next_batch('q', 'team', 'a')").await;
    let batch: i64 = one(client, "select pgq_coop.next_batch('q', 'team', 'b')").await;
    run(client, &format!("select pgq.finish_batch({batch})")).await;
    insert(client, &["c1"]).await;
}

/// This is refused, because the database needs a rebase.
pub(crate) async fn refused(client: &Client, call: &str) {
    let error = client.batch_execute(call).await.expect_err(call);
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "TM003", "{call}: {error}");
    assert!(error.message().starts_with("NeedsRebase: "), "{error}");
}

/// Everything that uses ticks is refused; inserts are not. Leaves `d1` and `d2` (of a savepoint) in the queue.
pub(crate) async fn needs_rebase(client: &Client) {
    run(client, "update pgq.queue set queue_switch_time = now() - interval '1 day'").await;
    for call in [
        "select tidemill.tick_pass()",
        "select pgq.ticker()",
        "select tidemill.rotate('q')",
        "select pgq.register_consumer('q', 'late')",
        "select pgq.next_batch('q', 'slow')",
        "select * from pgq.get_batch_events((select min(sub_batch) from pgq.subscription))",
    ] {
        refused(client, call).await;
    }
    insert(client, &["d1"]).await;
    run(client, "begin; savepoint s; select pgq.insert_event('q', 't', 'd2'); commit").await;
}

/// `tidemill queue rebase`; what it said.
pub(crate) fn rebase(url: &str, more: &[&str]) -> String {
    let (code, out, err) =
        pipeline::run("tidemill", &[&["queue", "rebase", "--database", url], more].concat()).unwrap();
    assert_eq!(code, Some(0), "{out}{err}");
    out
}

/// What a consumer gets until there is no more, sorted.
async fn drained(client: &Client, next: &[&str]) -> Vec<String> {
    run(client, "select pgq.maint_retry_events()").await;
    tick(client).await;
    let mut events = Vec::new();
    loop {
        let mut idle = true;
        for next in next {
            let Some(batch) = one::<Option<i64>>(client, next).await else { continue };
            idle = false;
            events.extend(all(client, &format!("select ev_data from pgq.get_batch_events({batch})")).await);
            assert_eq!(one::<i32>(client, &format!("select pgq.finish_batch({batch})")).await, 1);
        }
        if idle {
            events.sort();
            return events;
        }
    }
}

pub(crate) async fn drain(client: &Client, consumer: &str) -> Vec<String> {
    drained(client, &[&format!("select pgq.next_batch('q', '{consumer}')")]).await
}

/// Every consumer of the scene gets what it has not had and these events, once; and what comes later, too.
pub(crate) async fn delivers_the_rest(client: &Client, more: &[&str]) {
    let team = ["a", "b"].map(|member| format!("select pgq_coop.next_batch('q', 'team', '{member}')"));
    for round in [more, &["later"]] {
        if round != more {
            insert(client, round).await;
        }
        for (consumer, rest) in [("fast", FAST), ("slow", SLOW), ("team", TEAM)] {
            let got = match consumer {
                "team" => drained(client, &team.each_ref().map(String::as_str)).await,
                _ => drain(client, consumer).await,
            };
            let rest = if round == more { rest } else { &[] };
            assert_eq!(got, [rest, round].concat(), "{consumer}");
        }
    }
}

/// Runs one of PostgreSQL's programs with this database's address.
pub(crate) fn program(cluster: &Cluster, name: &str, database: &str, arguments: &[&str]) {
    let mut command: Command = cluster.command(name);
    let host = cluster.directory().display().to_string();
    command.args(["--host", &host, "--port", &cluster.port().to_string(), "--username=postgres"]);
    let output = command.args(["--dbname", database]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A cluster that never had the queue, but has the roles.
pub(crate) async fn elsewhere() -> Cluster {
    let cluster = Cluster::private();
    cluster.database().await;
    cluster
}
