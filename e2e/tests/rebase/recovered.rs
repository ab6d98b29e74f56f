//! The same files on another timeline: recovery to an earlier point, failover, an upgrade.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

use std::time::Duration;

use tidemill_common::testing::{Cluster, Service, TestDb, wait_for};
use tokio_postgres::Client;

use crate::support::{
    connect, delivers_the_rest, drain, elsewhere, insert, needs_rebase, one, rebase, run, scene, tick,
};

/// A standby of this cluster that streams.
pub(crate) async fn standby(primary: &Cluster, settings: &[(&str, &str)]) -> Cluster {
    let conninfo = primary.conninfo("standby");
    let settings = [settings, &[("primary_conninfo", conninfo.as_str())]].concat();
    let standby = primary.backup().unwrap().start(Some("standby.signal"), &settings).unwrap();
    let admin = connect(&primary.url("postgres")).await;
    caught_up(&admin).await;
    standby
}

/// Waits until the standby has all that is written now.
pub(crate) async fn caught_up(primary: &Client) {
    let end: String = one(primary, "select pg_current_wal_flush_lsn()::text").await;
    let sql = format!("select coalesce(bool_or(replay_lsn >= '{end}'), false) from pg_stat_replication");
    wait_for("the standby", Duration::from_secs(20), async || one::<bool>(primary, &sql).await.then_some(()))
        .await;
}

/// From now on the standby hears nothing.
pub(crate) async fn cut_off(standby: &Cluster) {
    let admin = connect(&standby.url("postgres")).await;
    run(&admin, "alter system set primary_conninfo = ''").await;
    run(&admin, "select pg_reload_conf()").await;
    wait_for("the receiver to end", Duration::from_secs(20), async || {
        one::<bool>(&admin, "select not exists (select 1 from pg_stat_wal_receiver)").await.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_to_an_earlier_point_is_detected() {
    let cluster = elsewhere().await;
    let db = cluster.database().await;
    let client = db.client().await;
    let backup = cluster.backup().unwrap();
    scene(&client).await;
    run(&client, "select pg_create_restore_point('here')").await;
    insert(&client, &["lost"]).await;
    tick(&client).await;
    drain(&client, "slow").await;
    run(&client, "select pg_switch_wal()").await;

    // The log files are fetched from where they were written: they are the archive.
    let restore = format!("cp {}/pg_wal/%f %p", cluster.data().display());
    let recovered = backup
        .start(
            Some("recovery.signal"),
            &[
                ("restore_command", restore.as_str()),
                ("recovery_target_name", "here"),
                ("recovery_target_action", "promote"),
            ],
        )
        .unwrap();
    let client = primary(&recovered, &db).await;
    needs_rebase(&client).await;
    let tick_before: i64 = one(&client, "select max(tick_id) from pgq.tick").await;
    let said = rebase(&recovered.url(db.name()), &[]);
    assert!(said.contains("its ticks stay"), "{said}");
    delivers_the_rest(&client, &["d1", "d2"]).await;
    // Numbers of lost ticks are not given again: somebody may remember them.
    let tick_after: i64 = one(&client, "select max(tick_id) from pgq.tick").await;
    assert!(tick_after > tick_before + 1_000_000_000);
}

/// The database on this server, once that takes writes.
pub(crate) async fn primary(server: &Cluster, db: &TestDb) -> Client {
    let client = connect(&server.url(db.name())).await;
    wait_for("the end of the recovery", Duration::from_secs(20), async || {
        one::<bool>(&client, "select not pg_is_in_recovery()").await.then_some(())
    })
    .await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asynchronous_standby_that_lost_a_tick_is_detected() {
    let cluster = elsewhere().await;
    let db = cluster.database().await;
    let client = db.client().await;
    let standby = standby(&cluster, &[]).await;
    scene(&client).await;
    caught_up(&client).await;
    cut_off(&standby).await;
    insert(&client, &["lost"]).await;
    tick(&client).await;
    let lost: i64 = one(&client, "select max(tick_id) from pgq.tick").await;
    cluster.stop_immediate().unwrap();
    standby.promote().unwrap();

    let client = primary(&standby, &db).await;
    needs_rebase(&client).await;
    // The ticker that cut it knows more than the server.
    let answer: String = one(&client, &format!("select tidemill.witness_tick('q', {lost}, true)")).await;
    assert_eq!(answer, "lost");
    needs_rebase(&client).await;
    rebase(&standby.url(db.name()), &[]);
    delivers_the_rest(&client, &["d1", "d1", "d2", "d2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_synchronous_standby_takes_over_without_a_hand() {
    let cluster = elsewhere().await;
    let db = cluster.database().await;
    let standby = standby(&cluster, &[]).await;
    let client = db.client().await;
    run(&client, "alter system set synchronous_standby_names = 'standby'").await;
    run(&client, "select pg_reload_conf()").await;
    wait_for("the setting", Duration::from_secs(10), async || {
        one::<bool>(&client, "select current_setting('synchronous_standby_names') <> ''").await.then_some(())
    })
    .await;
    scene(&client).await;
    cluster.stop_immediate().unwrap();
    standby.promote().unwrap();
    let client = primary(&standby, &db).await;
    // The new primary has no standby of its own yet.
    run(&client, "alter system set synchronous_standby_names = ''").await;
    run(&client, "select pg_reload_conf()").await;
    delivers_the_rest(&client, &[]).await;
    assert_eq!(one::<i32>(&client, "select timeline from tidemill.identity").await, 2);
}

/// A service that shows what it said when the test fails.
struct Telling(Service);

impl Drop for Telling {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0.log_text());
        }
    }
}

/// An asynchronous standby that has everything: the ticker, which lives on, is the witness.
#[tokio::test(flavor = "multi_thread")]
async fn a_ticker_that_remembers_vouches_for_a_standby() {
    let cluster = elsewhere().await;
    let db = cluster.database().await;
    let client = db.client().await;
    scene(&client).await;
    let standby = standby(&cluster, &[]).await;
    let hosts = format!(
        "postgresql://postgres@127.0.0.1:{},127.0.0.1:{}/{}?target_session_attrs=read-write&sslmode=disable",
        cluster.port(),
        standby.port(),
        db.name()
    );
    let settings = format!("[[databases]]\nname = \"{}\"\nurl = \"{hosts}\"\n", db.name());
    let ticker = Telling(Service::start("tidemill-ticker", &settings, &[]).await.unwrap());
    insert(&client, &["d1"]).await;
    let all = "select bool_and(t.seen) from (
                   select max(t.tick_event_seq) = pg_sequence_last_value('pgq.event_1_id_seq') as seen from pgq.tick t) t";
    wait_for("a tick", Duration::from_secs(20), async || one::<bool>(&client, all).await.then_some(())).await;
    caught_up(&client).await;
    // No pass is under way, of which the ticker would not know whether it was committed: after a second without events
    // it only looks.
    let rests = "select max(tick_time) < clock_timestamp() - interval '1 second' from pgq.tick";
    wait_for("a rest", Duration::from_secs(20), async || one::<bool>(&client, rests).await.then_some(()))
        .await;
    // In order: the standby gets the last word of the log.
    cluster.stop_fast().unwrap();
    standby.promote().unwrap();
    let client = primary(&standby, &db).await;
    insert(&client, &["d2"]).await;
    wait_for("a tick on the new primary", Duration::from_secs(15), async || {
        one::<bool>(&client, all).await.then_some(())
    })
    .await;
    drop(ticker);
    delivers_the_rest(&client, &["d1", "d2"]).await;
}

/// `pg_upgrade` keeps transaction ids and changes the server's identity.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_is_confirmed_by_the_command() {
    let old = elsewhere().await;
    let db = old.database().await;
    scene(&db.client().await).await;
    old.stop_fast().unwrap();
    let new = Cluster::private();
    new.stop_fast().unwrap();
    let mut upgrade = new.command("pg_upgrade");
    upgrade
        .current_dir(new.directory())
        .arg("--old-datadir")
        .arg(old.data())
        .arg("--new-datadir")
        .arg(new.data());
    upgrade.arg("--old-bindir").arg(old.bin_dir()).arg("--new-bindir").arg(new.bin_dir());
    upgrade.arg("--socketdir").arg(new.directory()).args(["--username=postgres"]);
    let output = upgrade.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    new.start().unwrap();
    let client = connect(&new.url(db.name())).await;
    needs_rebase(&client).await;
    let said = rebase(&new.url(db.name()), &[]);
    assert!(said.contains("The rows are the very ones") && said.contains("its ticks stay"), "{said}");
    delivers_the_rest(&client, &["d1", "d2"]).await;
}
