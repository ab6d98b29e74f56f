//! What the SQL tests share.

use std::sync::OnceLock;

use tidemill_common::testing::{Cluster, TestDb};
use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::types::FromSqlOwned;
use tokio_postgres::{Client, SimpleQueryMessage};

/// A new database with the schema, and a client of it.
pub(crate) async fn database() -> (TestDb, Client) {
    let db = Cluster::shared().database().await;
    let client = db.client().await;
    (db, client)
}

/// A database in a cluster in which no other test runs meanwhile, nor autovacuum: a transaction that is open anywhere in a
/// cluster holds rotation back.
pub(crate) async fn alone() -> (TestDb, Client, MutexGuard<'static, ()>) {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::const_new(());
    // Off would have pgq.maint_operations list tables to vacuum.
    let quiet = || Cluster::private_with(&[("autovacuum_naptime", "1d")]);
    let turn = TURN.lock().await;
    let db = CLUSTER.get_or_init(quiet).database().await;
    let client = db.client().await;
    (db, client, turn)
}

/// The first column of the only row.
pub(crate) async fn one<T: FromSqlOwned>(client: &Client, sql: &str) -> T {
    match client.query_one(sql, &[]).await {
        Ok(row) => row.get(0),
        Err(error) => panic!("{sql}: {}", tidemill_common::error_chain(&error)),
    }
}

/// The first column of all rows.
pub(crate) async fn all<T: FromSqlOwned>(client: &Client, sql: &str) -> Vec<T> {
    match client.query(sql, &[]).await {
        Ok(rows) => rows.iter().map(|row| row.get(0)).collect(),
        Err(error) => panic!("{sql}: {}", tidemill_common::error_chain(&error)),
    }
}

/// Runs statements.
pub(crate) async fn run(client: &Client, sql: &str) {
    if let Err(error) = client.batch_execute(sql).await {
        panic!("{sql}: {}", tidemill_common::error_chain(&error));
    }
}

/// SQLSTATE and message of statements that must fail.
pub(crate) async fn refused(client: &Client, sql: &str) -> (String, String) {
    let error = client.batch_execute(sql).await.expect_err(sql);
    let error =
        error.as_db_error().unwrap_or_else(|| panic!("{sql}: {}", tidemill_common::error_chain(&error)));
    (error.code().code().to_owned(), error.message().to_owned())
}

/// The message of statements that must fail.
pub(crate) async fn message(client: &Client, sql: &str) -> String {
    refused(client, sql).await.1
}

/// One pass of the ticker: the names of the queues that were ticked.
pub(crate) async fn tick(client: &Client) -> Vec<String> {
    all(client, "select queue_name from tidemill.tick_pass() where problem is null").await
}

/// A queue `q` with a consumer `c` at its second and last tick.
pub(crate) async fn queue(client: &Client) {
    run(client, "select pgq.create_queue('q')").await;
    tick(client).await;
    run(client, "select pgq.register_consumer('q', 'c')").await;
}

/// `ev_data` of the consumer's batches up to the last tick, one list per batch that is not empty; they are finished.
pub(crate) async fn consume(client: &Client, queue: &str, consumer: &str) -> Vec<Vec<String>> {
    let mut batches = Vec::new();
    let next = format!("select pgq.next_batch('{queue}', '{consumer}')");
    while let Some(batch) = one::<Option<i64>>(client, &next).await {
        let events = all(client, &format!("select ev_data from pgq.get_batch_events({batch})")).await;
        assert_eq!(one::<i32>(client, &format!("select pgq.finish_batch({batch})")).await, 1);
        if !events.is_empty() {
            batches.push(events);
        }
    }
    batches
}

/// The events of the consumer `c` of `q` that were not consumed yet, in order of delivery.
pub(crate) async fn delivered(client: &Client) -> Vec<String> {
    tick(client).await;
    consume(client, "q", "c").await.concat()
}

/// How many rows the last of some statements returned.
pub(crate) async fn rows(client: &Client, sql: &str) -> usize {
    let answers = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    answers.iter().filter(|answer| matches!(answer, SimpleQueryMessage::Row(_))).count()
}
