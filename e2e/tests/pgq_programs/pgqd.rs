//! The real pgqd does everything that keeps our schema running.

use tidemill_common::testing::{Cluster, wait_for};

use crate::support::{Books, PATIENCE, Program, consume, expected, one, produce, run};

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_pgqd, ignore = "pgqd is not installed: `apt-get install pgqd`")]
async fn pgqd_ticks_retries_and_rotates() {
    // Alone: a transaction open anywhere in a cluster holds rotation back.
    let cluster = Cluster::private();
    let db = cluster.database().await;
    let client = db.client().await;
    run(
        &client,
        "select pgq.create_queue('q'), pgq.set_queue_config('q', 'ticker_max_lag', '100 ms'),
             pgq.set_queue_config('q', 'rotation_period', '500 ms')",
    )
    .await;
    let pgqd = Program::pgqd(&cluster, &[db.name()]);
    run(&client, "select pgq.register_consumer('q', 'c')").await;
    let again = [0, 7, 23];
    let (mut books, mut produced) = (Books::new(), 0);
    let mut switches = std::collections::BTreeSet::new();
    wait_for("six rotations", PATIENCE, async || {
        produce(&client, "q", produced..produced + 10).await;
        produced += 10;
        consume(&client, "q", "c", &again, &mut books).await;
        switches.insert(one::<String>(&client, "select queue_switch_time::text from pgq.queue").await);
        (switches.len() > 6).then_some(())
    })
    .await;
    let whole = expected(produced, &again);
    wait_for("the rest", PATIENCE, async || {
        consume(&client, "q", "c", &again, &mut books).await;
        (books.len() >= whole.len()).then_some(())
    })
    .await;
    assert_eq!(books, whole);
    let kept: i64 = one(&client, "select count(*) from pgq.event_template").await;
    assert!(kept < produced, "nothing was rotated out");
    let log = pgqd.stop().await;
    assert!(!log.contains("ERROR") && !log.contains("WARNING"), "{log}");
}
