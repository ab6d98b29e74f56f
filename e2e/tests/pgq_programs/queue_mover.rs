//! python-pgq's `SerialConsumer` as queue mover between two databases: exactly once, whatever happens to it.

use tidemill_common::testing::{Cluster, wait_for};

use crate::support::{Books, PATIENCE, Program, connection, consume, expected, one, produce, run, ticker};

const ROUNDS: i64 = 6;
const EVENTS: i64 = 60;

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(
    without_python_pgq,
    ignore = "python-pgq is not installed: `apt-get install python3-pgq python3-skytools`"
)]
async fn a_queue_is_moved_exactly_once_by_two_movers_of_one_name_that_are_killed() {
    let cluster = Cluster::shared();
    let (source, target) = (cluster.database().await, cluster.database().await);
    let (from, to) = (source.client().await, target.client().await);
    run(&from, "select pgq.create_queue('q')").await;
    run(&to, "select pgq.create_queue('q2'), pgq.register_consumer('q2', 'check')").await;
    let _ticker = ticker(&[&source, &target]).await;
    let (src, dst) = (connection(cluster, Some(&source)), connection(cluster, Some(&target)));
    let settings =
        [("src_db", src.as_str()), ("dst_db", dst.as_str()), ("queue_name", "q"), ("dst_queue_name", "q2")];
    let mover = |arguments: &[&str]| Program::python("queue_mover.py", "mover", &settings, arguments);
    mover(&["--register"]).ended().await;
    let mut movers = vec![mover(&[]), mover(&[])];
    let mut books = Books::new();
    for round in 0..ROUNDS {
        let (first, end) = (round * EVENTS, (round + 1) * EVENTS);
        produce(&from, "q", first..end - EVENTS / 2).await;
        wait_for("events on the way", PATIENCE, async || {
            consume(&to, "q2", "check", &[], &mut books).await;
            books.contains_key(&(first, 0)).then_some(())
        })
        .await;
        produce(&from, "q", end - EVENTS / 2..end).await;
        // One of the two dies, in the middle of something or not, and another one takes its place.
        movers.remove(0).kill9();
        movers.push(mover(&[]));
    }
    let whole = expected(ROUNDS * EVENTS, &[]);
    wait_for("all events", PATIENCE, async || {
        consume(&to, "q2", "check", &[], &mut books).await;
        (books.len() >= whole.len()).then_some(())
    })
    .await;
    // What is behind the last event would come now.
    wait_for("the movers to have nothing left", PATIENCE, async || {
        let left = "select coalesce(sum(pending_events), 0)::bigint from pgq.get_consumer_info('q')";
        (one::<i64>(&from, left).await == 0).then_some(())
    })
    .await;
    for mover in movers {
        mover.stop().await;
    }
    assert_eq!(books, whole);
    assert_eq!(one::<i64>(&to, "select count(*) from pgq.event_template").await, ROUNDS * EVENTS);
}
