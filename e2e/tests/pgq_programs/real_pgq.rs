//! Where the real PgQ extension is installed: our ticker replaces pgqd under running producers and consumers, and back.

use std::time::Duration;

use tidemill_common::schema::{self, InstallOptions};
use tidemill_common::testing::{Cluster, ClusterOptions, Service, TestDb, wait_for};
use tokio::sync::watch;
use tokio::task::JoinHandle;

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

/// Producers that insert until they are told to stop; each returns the next of its numbers.
async fn producers(db: &TestDb, count: i64) -> (watch::Sender<bool>, Vec<JoinHandle<i64>>) {
    let (stop, stopped) = watch::channel(false);
    let mut tasks = Vec::new();
    for number in 0..count {
        let (client, stopped) = (db.client().await, stopped.clone());
        let producer = async move {
            let insert =
                client.prepare("select pgq.insert_event('q', 't', $1::text)").await.expect("a statement");
            let mut next = number;
            let mut pace = tokio::time::interval(Duration::from_millis(5));
            while !*stopped.borrow() {
                pace.tick().await;
                client.execute(&insert, &[&next.to_string()]).await.expect("inserts go on");
                next += count;
            }
            next
        };
        #[expect(clippy::disallowed_methods, reason = "joined by the test")]
        tasks.push(tokio::spawn(producer));
    }
    (stop, tasks)
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(
    any(without_pgq_extension, without_pgqd),
    ignore = "the real PgQ is not installed: `apt-get install pgqd postgresql-15-pgq3`"
)]
async fn a_live_installation_of_the_real_extension_becomes_ours_in_place() {
    let options = ClusterOptions { bin_dir: Some(server_with_pgq()), ..ClusterOptions::default() };
    let cluster = Cluster::start_new(&options).expect("a server");
    let db = cluster.empty_database().await;
    let client = db.client().await;
    run(
        &client,
        "create extension pgq; select pgq.create_queue('q'), pgq.set_queue_config('q', 'ticker_max_lag', '100 ms'),
             pgq.set_queue_config('q', 'ticker_idle_period', '1 second'),
             pgq.set_queue_config('q', 'rotation_period', '500 ms');
         select pgq.register_consumer('q', 'c'), pgq.register_consumer('q', 'late')",
    )
    .await;
    let pgqd = Program::pgqd(&cluster, &[db.name()]);
    let (stop, producers) = producers(&db, 3).await;
    let again = [3, 60, 150];
    let mut books = Books::new();
    let mut until = async |what: &str, least: usize| {
        wait_for(what, PATIENCE, async || {
            consume(&client, "q", "c", &again, &mut books).await;
            (books.len() >= least).then_some(())
        })
        .await;
        books.clone()
    };
    let before = until("events of the real PgQ", 300).await.len();

    let adopt = InstallOptions { adopt: true, ..InstallOptions::default() };
    let extensions = "select count(*) from pg_extension where extname = 'pgq'";
    // In vain, while a transaction uses the tables: nothing is changed.
    let reader = db.client().await;
    run(&reader, "begin; select count(*) from pgq.tick").await;
    let refused = schema::install(&mut db.session("test"), &adopt).await.expect_err("the tables are in use");
    let sentence = tidemill_common::error_chain(&refused);
    assert!(sentence.contains("lock timeout"), "{sentence}");
    assert_eq!(one::<i64>(&client, extensions).await, 1);
    run(&reader, "commit").await;
    for _ in 0..2 {
        let mut session = db.session("test");
        let installed = schema::install(&mut session, &adopt).await.expect("installed");
        assert!(!installed.foreign_pgq);
    }
    schema::check(&mut db.session("test")).await.expect("good");
    assert_eq!(one::<i64>(&client, extensions).await, 0);
    let left = "select count(*) from pg_proc p join pg_language l on l.oid = p.prolang
                where pronamespace = 'pgq'::regnamespace and lanname = 'c'";
    assert_eq!(one::<i64>(&client, left).await, 0, "functions of the C extension are left");

    let during = until("events of ours, ticked by pgqd", before + 300).await.len();
    pgqd.stop().await;
    let _ticker = ticker(&[&db]).await;
    until("events of ours, ticked by our ticker", during + 300).await;
    stop.send_replace(true);
    let mut whole = Books::new();
    for (number, producer) in (0..).zip(producers) {
        let end = producer.await.expect("it inserted");
        whole.extend((number..end).step_by(3).map(|n| ((n, 0), 1)));
    }
    whole.extend(again.map(|n| ((n, 1), 1)));
    assert_eq!(until("the rest", whole.len()).await, whole);
    // A consumer that was behind all the time kept the whole log from rotation.
    let mut late = Books::new();
    whole.retain(|(_, retry), _| *retry == 0);
    wait_for("the late consumer", PATIENCE, async || {
        consume(&client, "q", "late", &[], &mut late).await;
        (late.len() >= whole.len()).then_some(())
    })
    .await;
    assert_eq!(late, whole);
    wait_for("two rotations", PATIENCE, async || {
        consume(&client, "q", "late", &[], &mut late).await;
        consume(&client, "q", "c", &[], &mut late).await;
        (one::<i64>(&client, "select count(*) from pgq.event_template").await == 0).then_some(())
    })
    .await;
    run(&client, "select pgq.drop_queue('q', true); select pgq.create_queue('q')").await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(
    without_pgq_extension,
    ignore = "the real PgQ is not installed: `apt-get install postgresql-15-pgq3`"
)]
async fn our_mover_empties_a_queue_of_the_real_extension_into_ours() {
    let options = ClusterOptions { bin_dir: Some(server_with_pgq()), ..ClusterOptions::default() };
    let cluster = Cluster::start_new(&options).expect("a server");
    let (old, new) = (cluster.empty_database().await, cluster.database().await);
    let (from, to) = (old.client().await, new.client().await);
    run(&from, "create extension pgq; select pgq.create_queue('q')").await;
    schema::install(&mut old.session("test"), &InstallOptions::default()).await.expect("installed");
    run(&from, "select pgq.register_consumer('q', 'tidemill.mover')").await;
    produce(&from, "q", 0..200).await;
    run(&to, "select pgq.create_queue('q'), pgq.register_consumer('q', 'c')").await;

    let _ticker = ticker(&[&old, &new]).await;
    let toml = format!(
        "[mover]\ndestination = \"new\"\nsources = [\"old\"]\n[[mover.routes]]\nfrom = \"q\"\nto = \"q\"\n\
         [[databases]]\nname = \"old\"\nurl = \"{}\"\n[[databases]]\nname = \"new\"\nurl = \"{}\"\n",
        old.url(),
        new.url()
    );
    let _mover = Service::start("tidemill-mover", &toml, &[]).await.expect("the mover starts");
    produce(&from, "q", 200..400).await;
    let (whole, mut books) = (expected(400, &[]), Books::new());
    wait_for("all events", PATIENCE, async || {
        consume(&to, "q", "c", &[], &mut books).await;
        (books.len() >= whole.len()).then_some(())
    })
    .await;
    wait_for("the old queue to be empty", PATIENCE, async || {
        let left = "select coalesce(sum(pending_events), 0)::bigint from pgq.get_consumer_info('q', 'tidemill.mover')";
        (one::<i64>(&from, left).await == 0).then_some(())
    })
    .await;
    assert_eq!(books, whole);
}
