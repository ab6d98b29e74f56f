//! Copies of the data: by a dump, and by `create database … template`.

use tidemill_common::testing::Cluster;

use crate::support::{
    age, connect, delivers_the_rest, drain, elsewhere, insert, needs_rebase, one, program, rebase, run, scene,
};

/// A dump of the scene, in the format of `pg_restore` and as a script, from a server that is some thousand transactions
/// old.
async fn dumped(original: &Cluster) -> [String; 2] {
    let db = original.database().await;
    let client = db.client().await;
    age(&client, 5_000).await;
    scene(&client).await;
    run(&client, "select pgq.create_queue('r')").await;
    let [archive, script] = ["dump", "sql"].map(|name| original.directory().join(name).display().to_string());
    program(original, "pg_dump", db.name(), &["--format=custom", "--file", &archive]);
    program(original, "pg_dump", db.name(), &["--file", &script]);
    [archive, script]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_goes_on_in_a_younger_and_in_an_older_cluster() {
    let (original, new) = tokio::join!(async { Cluster::private() }, elsewhere());
    let [archive, script] = dumped(&original).await;

    // Younger: the stored ticks are in the future of its transaction ids.
    let younger = new.empty_database().await;
    program(&new, "pg_restore", younger.name(), &[&archive]);
    let client = younger.client().await;
    assert!(one::<i64>(&client, "select txid_current()").await < 5_000);
    needs_rebase(&client).await;
    // Somebody reads a table of the second queue: the first one is done, and stays so when the command is repeated.
    let reader = younger.client().await;
    run(&reader, "begin; select from pgq.event_2_0").await;
    let command = ["queue", "rebase", "--database", younger.url()];
    let (code, out, err) = tidemill_e2e::pipeline::run("tidemill", &command).unwrap();
    assert_eq!(code, Some(1));
    assert!(out.contains("were restored") && out.contains("q: translated"), "{out}");
    assert!(err.contains("Queue r is in use"), "{err}");
    run(&reader, "commit").await;
    let said = rebase(younger.url(), &[]);
    assert!(said.contains("q: done before") && said.contains("r: translated"), "{said}");
    delivers_the_rest(&client, &["d1", "d2"]).await;

    // Older; and restored in one transaction.
    age(&client, 10_000).await;
    let older = new.empty_database().await;
    program(&new, "psql", older.name(), &["--quiet", "--single-transaction", "--file", &script]);
    let client = older.client().await;
    needs_rebase(&client).await;
    rebase(older.url(), &[]);
    delivers_the_rest(&client, &["d1", "d2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_detection_events_would_be_lost() {
    let (original, new) = tokio::join!(async { Cluster::private() }, elsewhere());
    let [archive, _] = dumped(&original).await;
    let db = new.empty_database().await;
    program(&new, "pg_restore", db.name(), &[&archive]);
    let client = db.client().await;
    insert(&client, &["d1"]).await;
    run(
        &client,
        "update tidemill.identity set (system_identifier, database_oid, timeline) = (select * from tidemill.this_server())",
    )
    .await;
    // The guard of real PgQ ("Invalid PgQ state") is quiet as well once the ids have caught up.
    age(&client, 10_000).await;
    let fast = drain(&client, "fast").await;
    assert!(!fast.contains(&"d1".to_owned()), "{fast:?}");
    let slow = drain(&client, "slow").await;
    assert!(!slow.contains(&"d1".to_owned()), "{slow:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_copy_goes_on_and_a_healthy_database_is_left_alone() {
    let cluster = elsewhere().await;
    let original = cluster.database().await;
    scene(&original.client().await).await;
    let (code, _, said) =
        tidemill_e2e::pipeline::run("tidemill", &["queue", "rebase", "--database", original.url()]).unwrap();
    assert_eq!(code, Some(1));
    assert!(said.contains("needs no rebase"), "{said}");

    let admin = connect(&cluster.url("postgres")).await;
    let copy = format!("create database copy template {}", original.name());
    tidemill_common::testing::wait_for("the copy", std::time::Duration::from_secs(10), async || {
        admin.batch_execute(&copy).await.ok()
    })
    .await;
    let client = connect(&cluster.url("copy")).await;
    needs_rebase(&client).await;
    let said = rebase(&cluster.url("copy"), &[]);
    assert!(said.contains("q: its ticks stay"), "{said}");
    delivers_the_rest(&client, &["d1", "d2"]).await;
    // The original goes on as if nothing had happened.
    delivers_the_rest(&original.client().await, &[]).await;
}
