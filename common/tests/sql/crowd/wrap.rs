//! Over 2^32 transaction ids: the crowd in a cluster that is old enough.

use std::os::unix::fs::{MetadataExt, chown};
use std::time::Duration;

use tidemill_common::db::Session;
use tidemill_common::testing::Cluster;

use super::{Crowd, seed};
use crate::support::one;

/// Where 32-bit transaction ids begin again.
const BOUNDARY: i64 = 1 << 32;
/// Transaction ids of one file below `pg_xact`: two bits each, 32 pages of 8 kB.
const PER_SEGMENT: i64 = 4 * 8192 * 32;

/// Sets the next transaction id. The step must be less than 2^31, or rows would seem to come from the future; those
/// that are there are frozen first.
async fn age(cluster: &Cluster, next: i64) {
    let sql = |database, sql: &'static str| {
        let mut session = Session::new(cluster.target(database), "age");
        async move { session.batch("age the cluster", sql).await.expect("a superuser may") }
    };
    sql("postgres", "alter database template0 allow_connections true").await;
    for database in ["template0", "template1", "postgres"] {
        sql(database, "vacuum freeze").await;
    }
    sql("postgres", "alter database template0 allow_connections false").await;
    cluster.stop_fast().expect("it stops in order");

    // Nobody ever wrote down how the transactions before it ended: as if none of them had.
    let segment = cluster.data().join(format!("pg_xact/{:04X}", next / PER_SEGMENT));
    if !segment.exists() {
        let owner = std::fs::metadata(cluster.data()).expect("a data directory");
        std::fs::write(&segment, vec![0; 256 * 1024]).expect("there is room");
        chown(&segment, Some(owner.uid()), Some(owner.gid())).expect("the server's file");
    }
    let mut reset = cluster.command("pg_resetwal");
    let done = reset.arg("-x").arg(next.to_string()).arg(cluster.data()).output().expect("pg_resetwal");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    cluster.start().expect("it starts again");
}

#[tokio::test]
async fn nothing_is_lost_over_two_to_the_32_transactions() {
    let cluster = Crowd::cluster();
    for next in [2_000_000_000, 4_000_000_000, BOUNDARY - 696] {
        age(&cluster, next).await;
    }
    let seed = seed();
    let crowd = Crowd::new(&cluster, seed).await;
    let client = crowd.db.client().await;
    let now = "select txid_current()";
    let before: i64 = one(&client, now).await;
    assert!(before < BOUNDARY, "{before} is beyond the boundary already");
    for number in 0.. {
        let done = crowd.round(number, Duration::from_secs(2)).await;
        let done = done.unwrap_or_else(|what| panic!("TIDEMILL_TEST_SEED={seed}, round {number}: {what}"));
        let after: i64 = one(&client, now).await;
        println!("round {number}: {done:?}, transaction {after}");
        // One round more, with nothing from before.
        if after > BOUNDARY + 2000 {
            break;
        }
    }
}
