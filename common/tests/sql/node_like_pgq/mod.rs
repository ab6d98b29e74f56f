//! `pgq_node` answers, call by call, what that of the real PgQ answers: rows, codes, texts and refusals.

use std::path::{Path, PathBuf};

use tidemill_common::testing::{Cluster, ClusterOptions};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::support::run;

/// The folder with the programs of a server that has the extension.
fn server_with_pgq_node() -> PathBuf {
    let versions =
        std::fs::read_dir("/usr/share/postgresql").expect("looked at when this was built").flatten();
    let mut versions = versions.map(|dir| dir.path());
    let version = versions.find(|dir| dir.join("extension/pgq_node.control").exists());
    let version = version.expect("there when this was built");
    Path::new("/usr/lib/postgresql").join(version.file_name().expect("a version")).join("bin")
}

/// Each row as `column=value …`, or why there is none.
async fn answer(client: &Client, sql: &str) -> Vec<String> {
    let messages = match client.simple_query(sql).await {
        Ok(messages) => messages,
        Err(error) => return vec![error.as_db_error().expect("a refusal").message().to_owned()],
    };
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    rows.map(|row| {
        let values = row.columns().iter().enumerate();
        values.map(|(n, column)| format!("{}={:?} ", column.name(), row.get(n))).collect()
    })
    .collect()
}

#[tokio::test]
#[cfg_attr(
    without_pgq_node_extension,
    ignore = "the real pgq_node is not installed: `apt-get install postgresql-15-pgq-node`"
)]
async fn every_call_answers_the_same() {
    let options = ClusterOptions { bin_dir: Some(server_with_pgq_node()), ..ClusterOptions::default() };
    let cluster = Cluster::start_new(&options).expect("a server");
    let databases = [cluster.empty_database().await, cluster.database().await];
    let (theirs, ours) = (databases[0].client().await, databases[1].client().await);
    run(&theirs, "create extension pgq; create extension pgq_node").await;
    let calls = include_str!("cases.sql").lines().filter(|line| !line.starts_with("--"));
    let mut answers = 0;
    for call in calls {
        let expected = answer(&theirs, call).await;
        assert_eq!(answer(&ours, call).await, expected, "ours, PgQ's: {call}");
        answers += expected.len();
    }
    assert!(answers > 100, "{answers} answers");
}
