//! What the test clusters promise: databases of one's own, and nothing left behind.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tidemill_common::schema;
use tidemill_common::testing::{Cluster, ClusterOptions, wait_for};

/// Set for the child that is to be killed.
const HOLD: &str = "TIDEMILL_TEST_HOLD";

#[tokio::test]
async fn every_test_has_a_database_of_its_own_with_the_schema() {
    let (one, two) = tokio::join!(Cluster::shared().database(), Cluster::shared().database());
    assert_ne!(one.name(), two.name());
    let mut session = one.session("tidemill-test");
    schema::check(&mut session).await.unwrap();
    session.batch("make", "create table only_here ()").await.unwrap();
    let mut other = two.session("tidemill-test");
    other.query("look", "select from only_here", &[]).await.unwrap_err();

    let (name, client) = (one.name().to_owned(), two.client().await);
    drop(one);
    wait_for("the dropped database's end", Duration::from_secs(10), async || {
        client
            .query("select 1 from pg_database where datname = $1", &[&name])
            .await
            .unwrap()
            .is_empty()
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_kept_cluster_can_be_started_again() {
    let parent = tempfile::Builder::new().prefix("tidemill-kept-").tempdir().unwrap();
    open_to_all(parent.path());
    let directory = parent.path().join("cluster");
    let options =
        ClusterOptions { durable: true, keep: true, socket_only: true, ..ClusterOptions::default() };
    let options = ClusterOptions { directory: Some(directory.clone()), ..options };
    let cluster = Cluster::start_new(&options).unwrap();
    cluster.empty_database().await.client().await.batch_execute("create database kept").await.unwrap();
    let port = cluster.port();
    std::net::TcpStream::connect(("127.0.0.1", port)).unwrap_err();
    drop(cluster);
    assert!(!directory.join("data/postmaster.pid").exists(), "the server has been stopped in order");

    let cluster = Cluster::start_new(&options).unwrap();
    let mut session = tidemill_common::db::Session::new(cluster.target("kept"), "tidemill-test");
    let row = session.query_one("look", "select current_setting('fsync')", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "on");
}

/// The server may run as another user.
fn open_to_all(directory: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).expect("made just before");
}

#[tokio::test]
async fn a_killed_process_leaves_neither_server_nor_files() {
    let own = std::env::current_exe().unwrap();
    let arguments = ["--ignored", "--exact", "--nocapture", "holds_a_cluster_until_it_is_killed"];
    let mut child = Command::new(own).args(arguments).env(HOLD, "1").stdout(Stdio::piped()).spawn().unwrap();
    let said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let line = said.into_iter().find(|line| line.contains("holding ")).unwrap();
    let directory = PathBuf::from(line.split("holding ").nth(1).unwrap());
    assert!(directory.join("data/postmaster.pid").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("the clean-up", Duration::from_secs(10), async || (!directory.exists()).then_some(())).await;
}

#[test]
#[ignore = "run by a_killed_process_leaves_neither_server_nor_files"]
fn holds_a_cluster_until_it_is_killed() {
    if !std::env::vars_os().any(|(name, _)| name == HOLD) {
        return;
    }
    let cluster = Cluster::private();
    println!("holding {}", cluster.directory().display());
    loop {
        std::thread::park();
    }
}
