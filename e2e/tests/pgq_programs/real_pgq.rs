//! Where the real PgQ extension is installed: our ticker replaces pgqd under running producers and consumers, and back.

use tidemill_common::schema::{self, InstallOptions};
use tidemill_common::testing::{Cluster, ClusterOptions, wait_for};

use crate::support::{
    Books, PATIENCE, Program, consume, expected, one, produce, run, server_with_pgq, ticker,
};

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(
    any(without_pgq_extension, without_pgqd),
    ignore = "the real PgQ is not installed: `apt-get install pgqd postgresql-15-pgq3`"
)]
async fn our_ticker_replaces_pgqd_in_a_live_installation_and_back() {
    let options = ClusterOptions { bin_dir: Some(server_with_pgq()), ..ClusterOptions::default() };
    let cluster = Cluster::start_new(&options).expect("a server");
    let db = cluster.empty_database().await;
    let client = db.client().await;
    run(
        &client,
        "create extension pgq; select pgq.create_queue('q'), pgq.set_queue_config('q', 'ticker_max_lag', '100 ms'),
             pgq.set_queue_config('q', 'rotation_period', '500 ms'); select pgq.register_consumer('q', 'c')",
    )
    .await;
    let insert: String = one(&client, "select probin from pg_proc where proname = 'insert_event_raw'").await;
    assert!(insert.contains("pgq_lowlevel"), "{insert} is not the C extension");

    let again = [3, 60, 150];
    let (mut books, mut produced) = (Books::new(), 0);
    let mut flow = async |what: &str, sign: &str| {
        wait_for(what, PATIENCE, async || {
            produce(&client, "q", produced..produced + 10).await;
            produced += 10;
            consume(&client, "q", "c", &again, &mut books).await;
            one::<bool>(&client, sign).await.then_some(())
        })
        .await;
        (produced, books.clone())
    };
    // Five rotations under each of them: every table was emptied, and every event of before.
    let mut rotations = 0;
    let rotated = "select (select coalesce(max(queue_switch_step1), 0) from pgq.queue) > mark.at from mark";
    run(&client, "create table mark (at bigint)").await;
    let mark = "delete from mark; insert into mark select queue_switch_step1 from pgq.queue";

    let pgqd = Program::pgqd(&cluster, &[db.name()]);
    while rotations < 5 {
        run(&client, mark).await;
        flow("a rotation by pgqd", rotated).await;
        rotations += 1;
    }
    let mut session = db.session("test");
    let installed = schema::install(&mut session, &InstallOptions::default()).await.expect("installed");
    assert!(installed.foreign_pgq);
    pgqd.stop().await;
    let ours = ticker(&[&db]).await;
    while rotations < 10 {
        run(&client, mark).await;
        flow("a rotation by our ticker", rotated).await;
        rotations += 1;
    }
    drop(ours);
    let pgqd = Program::pgqd(&cluster, &[db.name()]);
    run(&client, mark).await;
    let (produced, mut books) = flow("a rotation by pgqd again", rotated).await;
    let whole = expected(produced, &again);
    wait_for("the rest", PATIENCE, async || {
        consume(&client, "q", "c", &again, &mut books).await;
        (books.len() >= whole.len()).then_some(())
    })
    .await;
    pgqd.stop().await;
    assert_eq!(books, whole);
}
