//! python-pgq's `CoopConsumer`: several processes share a queue, one of them dies in the middle of a batch.

use tidemill_common::testing::Cluster;

use crate::support::{Program, connection, expected, one, produce, run, seen, ticker, wait_for_rows};

const EVENTS: i64 = 300;

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(
    without_python_pgq,
    ignore = "python-pgq is not installed: `apt-get install python3-pgq python3-skytools`"
)]
async fn the_batch_of_a_member_that_is_killed_goes_to_another() {
    let cluster = Cluster::shared();
    let db = cluster.database().await;
    let client = db.client().await;
    run(
        &client,
        "select pgq.create_queue('q'); create table seen (number bigint, retry integer, member text)",
    )
    .await;
    let _ticker = ticker(&[&db]).await;
    let connection = connection(cluster, Some(&db));
    let settings = |name: &'static str| {
        vec![
            ("db", connection.as_str()),
            ("queue_name", "q"),
            ("consumer_name", "group"),
            ("subconsumer_name", name),
            ("subconsumer_timeout", "2 seconds"),
        ]
    };
    let mut victim = settings("victim");
    victim.push(("hang_at", "3"));
    Program::python("coop.py", "victim", &victim, &["--register"]).ended().await;
    let victim = Program::python("coop.py", "victim", &victim, &[]);
    produce(&client, "q", 0..5).await;
    victim.says("hanging").await;
    let members = ["a", "b", "c"].map(|name| Program::python("coop.py", name, &settings(name), &[]));
    victim.kill9();
    produce(&client, "q", 5..EVENTS).await;
    let whole = expected(EVENTS, &[]);
    wait_for_rows(&client, "seen", whole.len()).await;
    for member in members {
        member.stop().await;
    }
    assert_eq!(seen(&client).await, whole);
    assert_eq!(one::<i64>(&client, "select count(*) from seen where member = 'victim'").await, 0);
    assert!(one::<i64>(&client, "select count(distinct member) from seen").await > 1, "nobody shared");
    assert_eq!(one::<i64>(&client, "select count(sub_batch) from pgq.subscription").await, 0);
}
