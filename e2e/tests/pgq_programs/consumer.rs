//! python-pgq's `Consumer`.

use tidemill_common::testing::Cluster;

use crate::support::{Program, connection, expected, produce, run, seen, ticker, wait_for_rows};

const EVENTS: i64 = 300;

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(
    without_python_pgq,
    ignore = "python-pgq is not installed: `apt-get install python3-pgq python3-skytools`"
)]
async fn a_consumer_gets_each_event_once_and_retried_ones_again() {
    let cluster = Cluster::shared();
    let db = cluster.database().await;
    let client = db.client().await;
    run(
        &client,
        "select pgq.create_queue('q'); create table seen (number bigint, retry integer);
         create role reader login in role pgq_reader; grant insert on seen to reader",
    )
    .await;
    let _ticker = ticker(&[&db]).await;
    // A consumer needs no more than this role.
    let connection = connection(cluster, Some(&db)).replace("user=postgres", "user=reader");
    for lazy_fetch in ["0", "7"] {
        run(&client, "truncate seen").await;
        let name = format!("recorder{lazy_fetch}");
        let settings = [("db", connection.as_str()), ("queue_name", "q"), ("pgq_lazy_fetch", lazy_fetch)];
        Program::python("consumer.py", &name, &settings, &["--register"]).ended().await;
        let consumer = Program::python("consumer.py", &name, &settings, &[]);
        produce(&client, "q", 0..EVENTS).await;
        let again: Vec<i64> = (0..EVENTS).step_by(10).collect();
        let whole = expected(EVENTS, &again);
        wait_for_rows(&client, "seen", whole.len()).await;
        let log = consumer.stop().await;
        assert_eq!(seen(&client).await, whole, "{log}");
        Program::python("consumer.py", &name, &settings, &["--unregister"]).ended().await;
        assert_eq!(crate::support::one::<i64>(&client, "select count(*) from pgq.subscription").await, 0);
    }
}
