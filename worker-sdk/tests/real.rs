//! The worker with everything real: PostgreSQL, ticker, dispatchers.
//!
//! Needs the binaries: `cargo build --workspace --bins`.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidemill_common::testing::{Cluster, Service, TestDb, wait_for};
use tidemill_worker::produce::{self, HttpProducer, InsertError, ProduceError};
use tidemill_worker::{
    CallError, Failure, Job, JobKind, JobOptions, NewJob, Outcome, Progress, RunError, StopReason, Summary,
    Transactional, TransactionalHandler, Worker, WorkerBuilder, connect_without_tls,
};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_postgres::{Client, Transaction};
use tokio_util::sync::CancellationToken;

const QUEUE: &str = "work";
const PATIENCE: Duration = Duration::from_secs(40);

#[derive(Debug, Serialize, Deserialize)]
struct Add {
    n: i64,
}

impl JobKind for Add {
    const TYPE: &'static str = "add";
}

/// A database with a job queue, a ticker, and dispatchers.
struct Mill {
    database: TestDb,
    _ticker: Service,
    dispatchers: Vec<Service>,
    client: Client,
}

impl Mill {
    async fn start(dispatchers: usize) -> Result<Mill> {
        let database = Cluster::shared().database().await;
        let client = database.client().await;
        let settings = r#"{"backoff_base_ms": 20, "backoff_cap_ms": 50, "max_attempts": 3}"#;
        client
            .batch_execute(&format!(
                "select tidemill.create_job_queue('{QUEUE}', '{settings}');
                 create table public.total (one int primary key default 1, n int8 not null, rows int8 not null);
                 insert into public.total (n, rows) values (0, 0);
                 create table public.added (n int8 primary key);"
            ))
            .await?;
        let toml = format!("[[databases]]\nname = \"{}\"\nurl = \"{}\"\n", database.name(), database.url());
        let ticker = Service::start("tidemill-ticker", &toml, &[]).await?;
        let mut started = Vec::new();
        for _ in 0..dispatchers {
            started.push(Service::start("tidemill-dispatcher", &toml, &[]).await?);
        }
        Ok(Mill { database, _ticker: ticker, dispatchers: started, client })
    }

    fn urls(&self) -> Vec<String> {
        self.dispatchers.iter().map(|dispatcher| format!("http://{}", dispatcher.http_address())).collect()
    }

    fn builder(&self) -> WorkerBuilder {
        let mut urls = self.urls().into_iter();
        let first = Worker::builder(urls.next().expect("a dispatcher"));
        let builder = urls.fold(first, WorkerBuilder::or);
        builder.queue(QUEUE).lease(Duration::from_secs(2)).drain(Duration::from_secs(5)).name("test")
    }

    fn adder(&self, adder: Adder) -> Transactional<Adder> {
        let config = self.database.url().parse().expect("a URL that the driver reads");
        Transactional::new(connect_without_tls(config), adder).connections(3).batch(20)
    }

    async fn put(&self, numbers: std::ops::Range<i64>) -> Result<()> {
        let jobs: Vec<Add> = numbers.map(|n| Add { n }).collect();
        produce::insert_many(&self.client, QUEUE, &jobs, &JobOptions::default()).await?;
        Ok(())
    }

    async fn number(&self, sql: &str) -> i64 {
        self.client.query_one(sql, &[]).await.expect("the test's own query").get(0)
    }

    async fn until(&self, what: &str, sql: &str, value: i64) {
        wait_for(what, PATIENCE, async || (self.number(sql).await == value).then_some(())).await;
    }
}

struct Running {
    shutdown: CancellationToken,
    task: JoinSet<Result<Summary, RunError>>,
}

impl Running {
    fn start(builder: WorkerBuilder) -> Running {
        let shutdown = CancellationToken::new();
        let worker = builder.build().expect("a good worker");
        let mut task = JoinSet::new();
        task.spawn(worker.run(shutdown.clone().cancelled_owned()));
        Running { shutdown, task }
    }

    async fn stop(mut self) -> Summary {
        self.shutdown.cancel();
        self.task.join_next().await.expect("asked once").expect("no panic").expect("a worker that ran")
    }
}

/// Adds numbers in the database, each once; fails for the number it cannot bear.
#[derive(Default)]
struct Adder {
    poison: Option<i64>,
    /// Called before every transaction's work, with its number.
    calls: Arc<AtomicUsize>,
    /// Cuts its own connection in the first calls.
    cuts: AtomicI64,
    /// Does not end in the first calls.
    hangs: AtomicI64,
}

impl TransactionalHandler for Adder {
    type Args = Add;

    async fn handle(&self, tx: &Transaction<'_>, jobs: &[Job<Add>]) -> Result<(), Failure> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let numbers: Vec<i64> = jobs.iter().map(|job| job.args.n).collect();
        // The primary key notices a second time that was committed.
        tx.execute("insert into public.added select * from unnest($1::int8[])", &[&numbers]).await?;
        tx.execute(
            "update public.total set n = n + $1, rows = rows + $2",
            &[&numbers.iter().sum::<i64>(), &i64::try_from(numbers.len())?],
        )
        .await?;
        if self.hangs.fetch_sub(1, Ordering::SeqCst) > 0 {
            std::future::pending::<()>().await;
        }
        if self.cuts.fetch_sub(1, Ordering::SeqCst) > 0 {
            tx.execute("select pg_terminate_backend(pg_backend_pid())", &[]).await?;
        }
        if numbers.iter().any(|n| Some(*n) == self.poison) {
            return Err(Failure::temporary("cannot bear it"));
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_of_every_way_to_produce_are_carried_out() -> Result<()> {
    let mut mill = Mill::start(1).await?;
    let later = JobOptions { delay_ms: Some(300), ..JobOptions::default() };
    let now = JobOptions::default();

    let tx = mill.client.transaction().await?;
    produce::insert(&tx, QUEUE, &Add { n: 1 }, &now).await?;
    tx.commit().await?;
    let tx = mill.client.transaction().await?;
    produce::insert(&tx, QUEUE, &Add { n: 2 }, &now).await?;
    tx.rollback().await?;
    let ids = produce::insert_many(&mill.client, QUEUE, &[Add { n: 3 }, Add { n: 4 }], &now).await?;
    assert_eq!(ids.len(), 2);
    produce::insert(&mill.client, QUEUE, &Add { n: 5 }, &later).await?;
    let http = HttpProducer::new(&mill.urls(), None)?;
    let inserted = http.insert(QUEUE, &Add { n: 6 }, &now).await?;
    assert!(!inserted.duplicate);
    assert_eq!(http.insert_many(QUEUE, &[Add { n: 7 }, Add { n: 8 }], &now).await?.len(), 2);

    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let (record, changed) = (Arc::clone(&seen), Arc::new(Notify::new()));
    let signal = Arc::clone(&changed);
    let worker = Running::start(mill.builder().register(move |job: Job<Add>| {
        record.lock().unwrap().insert(job.args.n);
        signal.notify_one();
        async { Ok(()) }
    }));
    let expected = BTreeSet::from([1, 3, 4, 5, 6, 7, 8]);
    wait_for("all seen", PATIENCE, async || (*seen.lock().unwrap() == expected).then_some(())).await;
    let summary = worker.stop().await;
    assert_eq!((summary.succeeded, summary.lost, summary.unsent), (7, 0, 0));

    // What cannot work says why.
    let refused = produce::insert(&mill.client, "nowhere", &Add { n: 1 }, &now).await.unwrap_err();
    assert!(matches!(refused, InsertError::Insert(..)));
    let refused = http.insert("nowhere", &Add { n: 1 }, &now).await.unwrap_err();
    assert!(matches!(refused, ProduceError::Call(_, CallError::Refused(_))), "{refused:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_carried_out_by_priority() -> Result<()> {
    let mut mill = Mill::start(1).await?;
    let tx = mill.client.transaction().await?;
    for (n, priority) in [(1, -1_000), (2, 0), (3, 1_000), (4, 1)] {
        produce::insert(&tx, QUEUE, &Add { n }, &JobOptions::default().priority(priority)).await?;
    }
    produce::insert(&tx, QUEUE, &Add { n: 5 }, &JobOptions::default()).await?;
    tx.commit().await?;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    let worker = Running::start(mill.builder().concurrency(1).register(move |job: Job<Add>| {
        record.lock().unwrap().push(job.args.n);
        async { Ok(()) }
    }));
    wait_for("all seen", PATIENCE, async || (seen.lock().unwrap().len() == 5).then_some(())).await;
    assert_eq!(*seen.lock().unwrap(), [3, 4, 2, 5, 1]);
    worker.stop().await;

    let too_high = JobOptions::default().priority(1_001);
    let refused = produce::insert(&mill.client, QUEUE, &Add { n: 6 }, &too_high).await.unwrap_err();
    assert!(matches!(&refused, InsertError::Limit { pointer, .. } if pointer == "/priority"), "{refused:?}");
    let http = HttpProducer::new(&mill.urls(), None)?;
    http.insert(QUEUE, &Add { n: 6 }, &JobOptions::default().priority(1_000)).await?;
    http.insert(QUEUE, &Add { n: 7 }, &too_high).await.unwrap_err();
    mill.until("one of both", "select count(*) from pgq.event_1 where ev_extra1 like '%1000%'", 3).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_key_a_job_is_produced_once_whatever_dies() -> Result<()> {
    let mill = Mill::start(1).await?;
    let toml = format!("[[databases]]\nname = \"jobs\"\nurl = \"{}\"\n", mill.database.url());
    // It commits, and dies before it answers.
    let points = [("FAILPOINTS", "dispatcher.after_produce_commit=return")];
    let mut mortal = Service::start("tidemill-dispatcher", &toml, &points).await?;
    let urls = [vec![format!("http://{}", mortal.http_address())], mill.urls()].concat();
    let http = HttpProducer::new(&urls, None)?;
    let now = JobOptions::default();
    let once = async |n, key: &str| http.insert_once(QUEUE, &Add { n }, &now, key).await;
    let inserted = once(1, "order-1").await?;
    assert!(!mortal.wait_exit(PATIENCE).await.success());
    assert_eq!(mill.number("select count(*) from pgq.event_1").await, 1);
    assert_eq!(once(1, "order-1").await?.id, inserted.id);

    // Another body is not repeated, it stays wrong.
    let refused = once(2, "order-1").await.unwrap_err();
    assert!(matches!(refused, ProduceError::Call(_, CallError::Refused(_))), "{refused:?}");
    assert_ne!(once(2, "order-2").await?.id, inserted.id);
    assert_eq!(mill.number("select count(*) from pgq.event_1").await, 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_retried_until_they_are_dead_letters() -> Result<()> {
    let mill = Mill::start(1).await?;
    mill.put(0..4).await?;
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&attempts);
    let worker = Running::start(mill.builder().register(move |job: Job<Add>| {
        record.lock().unwrap().push((job.args.n, job.attempt()));
        async move {
            match (job.args.n, job.attempt()) {
                (0, 1) => panic!("first try"),
                (1, _) => Err(Failure::temporary("never works")),
                (2, _) => Err(Failure::permanent("hopeless")),
                (3, 1) => Ok(Outcome::Replace(vec![NewJob::new(
                    Add::TYPE,
                    Some(serde_json::value::to_raw_value(&Add { n: 9 })?),
                    JobOptions::default(),
                )])),
                _ => Ok(Outcome::Complete),
            }
        }
    }));
    mill.until("two dead letters", "select count(*) from tidemill.dead", 2).await;
    wait_for("the second try", PATIENCE, async || {
        let seen = attempts.lock().unwrap();
        (seen.contains(&(0, 2)) && seen.contains(&(1, 3))).then_some(())
    })
    .await;
    worker.stop().await;
    let mut seen = attempts.lock().unwrap().clone();
    seen.sort_unstable();
    seen.retain(|(n, _)| *n < 3);
    assert_eq!(seen, [(0, 1), (0, 2), (1, 1), (1, 2), (1, 3), (2, 1)]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_job_fails_alone_and_the_others_commit() -> Result<()> {
    let mill = Mill::start(1).await?;
    mill.put(0..50).await?;
    let adder = Adder { poison: Some(17), ..Adder::default() };
    let worker = Running::start(mill.builder().register_transactional(mill.adder(adder)));
    mill.until("the others are done", "select rows from public.total", 49).await;
    mill.until("poison is dead", "select count(*) from tidemill.dead", 1).await;
    worker.stop().await;
    assert_eq!(mill.number("select n from public.total").await, (0..50).sum::<i64>() - 17);
    assert_eq!(mill.number("select count(*) from tidemill.waiting").await, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn effects_happen_once_while_connections_are_cut() -> Result<()> {
    let mill = Mill::start(1).await?;
    mill.put(0..400).await?;
    let adder = Adder { cuts: AtomicI64::new(5), ..Adder::default() };
    let calls = Arc::clone(&adder.calls);
    let worker = Running::start(mill.builder().register_transactional(mill.adder(adder)));
    // Also from outside, at any moment: in the middle, during COMMIT.
    for _ in 0..10 {
        let seen = calls.load(Ordering::SeqCst);
        wait_for("some more calls", PATIENCE, async || {
            let done = mill.number("select rows from public.total").await == 400;
            (done || calls.load(Ordering::SeqCst) > seen).then_some(())
        })
        .await;
        mill.client
            .execute(
                "select pg_terminate_backend(pid) from pg_stat_activity
                  where datname = current_database() and application_name = '' and pid <> pg_backend_pid()",
                &[],
            )
            .await?;
    }
    mill.until("all added", "select rows from public.total", 400).await;
    worker.stop().await;
    assert_eq!(mill.number("select n from public.total").await, (0..400).sum::<i64>());
    assert_eq!(mill.number("select count(*) from public.added").await, 400);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn effects_happen_once_while_dispatchers_are_killed() -> Result<()> {
    let mut mill = Mill::start(2).await?;
    let worker = Running::start(mill.builder().register_transactional(mill.adder(Adder::default())));
    mill.put(0..500).await?;
    wait_for("some are added", PATIENCE, async || {
        (mill.number("select rows from public.total").await > 0).then_some(())
    })
    .await;
    mill.put(500..1_000).await?;
    mill.dispatchers[0].kill9();
    mill.until("all added", "select rows from public.total", 1_000).await;
    mill.put(1_000..1_100).await?;
    mill.until("the other one goes on", "select rows from public.total", 1_100).await;
    let summary = worker.stop().await;
    assert_eq!(mill.number("select n from public.total").await, (0..1_100).sum::<i64>());
    assert_eq!(summary.failed, 0);
    mill.dispatchers.clear();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_attempt_goes_on_where_the_last_one_came() -> Result<()> {
    let mill = Mill::start(1).await?;
    mill.put(1..2).await?;
    let (seen, finish) = (Arc::new(Mutex::new(Vec::new())), CancellationToken::new());
    let (record, go) = (Arc::clone(&seen), finish.clone());
    let worker =
        Running::start(mill.builder().lease(Duration::from_secs(60)).register(move |job: Job<Add>| {
            let before = job.progress().map(|progress| {
                let page: Option<i64> = progress.read_checkpoint().expect("a number");
                (progress.percent, progress.message.clone(), page)
            });
            record.lock().unwrap().push(before);
            let go = go.clone();
            async move {
                job.report(Progress::default().with_percent(101)).expect_err("no percentage");
                if job.attempt() == 1 {
                    job.report(Progress::default().with_percent(30).with_message("page 3"))?;
                    job.report(Progress::default().with_percent(40).with_checkpoint(&4)?)?;
                    return Err(Failure::temporary("half-way"));
                }
                job.report(Progress::default().with_checkpoint(&9)?)?;
                go.cancelled().await;
                Ok(())
            }
        }));
    // The lease is long: this does not wait for a heartbeat that only extends it.
    let (http, url) = (reqwest::Client::new(), format!("{}/v1/queues/{QUEUE}/jobs/1", mill.urls()[0]));
    let progress = wait_for("the second attempt's report", PATIENCE, async || {
        let job = http.get(&url).send().await.ok()?.text().await.ok()?;
        let job: Value = serde_json::from_str(&job).ok()?;
        (job["progress"]["checkpoint"] == 9).then(|| job["progress"].clone())
    })
    .await;
    assert_eq!(progress, json!({"percent": 40, "message": "page 3", "checkpoint": 9}));
    finish.cancel();
    mill.until("the job is done", "select count(*) from tidemill.waiting", 0).await;
    let summary = worker.stop().await;
    assert_eq!((summary.succeeded, summary.failed), (1, 1));
    assert_eq!(*seen.lock().unwrap(), [None, Some((Some(40), Some("page 3".to_owned()), Some(4)))]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_outlives_its_lease_runs_once() -> Result<()> {
    let mill = Mill::start(1).await?;
    mill.put(0..3).await?;
    let runs = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&runs);
    let worker = Running::start(mill.builder().lease(Duration::from_secs(1)).register(move |job: Job<Add>| {
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            tokio::select! {
                reason = job.stop().requested() => panic!("{reason:?}"),
                () = tokio::time::sleep_until(tokio::time::Instant::now() + Duration::from_secs(3)) => Ok(()),
            }
        }
    }));
    wait_for("all run", PATIENCE, async || (runs.load(Ordering::SeqCst) == 3).then_some(())).await;
    // The drain budget is longer than what is left of the handlers.
    let summary = worker.stop().await;
    assert_eq!((summary.succeeded, summary.lost, runs.load(Ordering::SeqCst)), (3, 0, 3));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_hangs_fails_in_its_time_and_the_job_is_done_by_the_next_attempt() -> Result<()> {
    let mill = Mill::start(1).await?;
    let again = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&again);
    let worker = Running::start(mill.builder().register(move |job: Job<Add>| {
        let count = Arc::clone(&count);
        async move {
            if job.attempt() == 1 {
                std::future::pending::<()>().await;
            }
            count.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }));
    // Longer than the lease, and shorter.
    for (n, timeout) in [(1, Duration::from_secs(3)), (2, Duration::from_secs(1))] {
        produce::insert(&mill.client, QUEUE, &Add { n }, &JobOptions::default().timeout(timeout)).await?;
    }
    mill.until("both failed", "select count(*) from tidemill.failure where reason = 'failed'", 2).await;
    let rows = mill.client.query("select message from tidemill.failure order by 1", &[]).await?;
    let said: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(said, ["timed out after 1000 ms", "timed out after 3000 ms"]);
    wait_for("both retries", PATIENCE, async || (again.load(Ordering::SeqCst) == 2).then_some(())).await;
    let summary = worker.stop().await;
    assert_eq!((summary.succeeded, summary.failed, summary.lost), (2, 2, 0));
    assert_eq!(mill.number("select count(*) from tidemill.failure").await, 2, "no lease ended");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_hangs_is_rolled_back_and_its_jobs_fail_in_their_time() -> Result<()> {
    let mill = Mill::start(1).await?;
    let jobs: Vec<Add> = (0..5).map(|n| Add { n }).collect();
    let timeout = JobOptions::default().timeout(Duration::from_secs(1));
    produce::insert_many(&mill.client, QUEUE, &jobs, &timeout).await?;
    let adder = Adder { hangs: AtomicI64::new(1), ..Adder::default() };
    let worker = Running::start(mill.builder().register_transactional(mill.adder(adder)));
    mill.until("all added after all", "select rows from public.total", 5).await;
    let summary = worker.stop().await;
    assert_eq!(mill.number("select n from public.total").await, (0..5).sum::<i64>());
    assert!(summary.failed > 0, "{summary:?}");
    let others = "select count(*) from tidemill.failure where message <> 'timed out after 1000 ms'";
    assert_eq!(mill.number(others).await, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_come_and_go_cost_no_job_an_attempt() -> Result<()> {
    let mill = Mill::start(1).await?;
    for round in 0..10 {
        let worker = Running::start(mill.builder().register_transactional(mill.adder(Adder::default())));
        for part in 0..10 {
            let first = round * 100 + part * 10;
            mill.put(first..first + 10).await?;
        }
        wait_for("this round's first jobs", PATIENCE, async || {
            (mill.number("select rows from public.total").await > round * 100).then_some(())
        })
        .await;
        let summary = worker.stop().await;
        assert_eq!((summary.lost, summary.unsent), (0, 0), "round {round}");
    }
    let worker = Running::start(mill.builder().register_transactional(mill.adder(Adder::default())));
    mill.until("all added", "select rows from public.total", 1_000).await;
    worker.stop().await;
    assert_eq!(mill.number("select n from public.total").await, (0..1_000).sum::<i64>());
    // An expired lease would have left a failure.
    assert_eq!(mill.number("select count(*) from tidemill.failure").await, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_does_what_any_dispatcher_is_asked_to_tell_it() -> Result<()> {
    let mill = Mill::start(2).await?;
    // Fails if another test was first.
    drop(rustls::crypto::ring::default_provider().install_default());
    let (http, urls) = (reqwest::Client::new(), mill.urls());
    // The first worker, as a dispatcher lists it, once this holds.
    let listed = async |url: &str, what: &str, holds: &dyn Fn(&Value) -> bool| {
        wait_for(what, PATIENCE, async || {
            let list = http.get(format!("{url}/v1/workers")).send().await.ok()?.text().await.ok()?;
            let list: Value = serde_json::from_str(&list).ok()?;
            list["workers"]
                .as_array()?
                .iter()
                .find(|one| one["worker"]["name"] == "test" && holds(one))
                .cloned()
        })
        .await
    };
    let (seen, finish) = (Arc::new(Mutex::new(Vec::new())), CancellationToken::new());
    let worker = |name: &str| {
        let (seen, finish, own) = (Arc::clone(&seen), finish.clone(), name.to_owned());
        Running::start(mill.builder().name(name).concurrency(2).register(move |job: Job<Add>| {
            seen.lock().unwrap().push((own.clone(), job.args.n));
            let finish = finish.clone();
            // The first job goes on until the test says so.
            async move {
                if job.args.n == 0 {
                    finish.cancelled().await;
                }
                Ok(())
            }
        }))
    };
    let done = async |what: &str, by: &str, numbers: std::ops::Range<i64>| {
        wait_for(what, PATIENCE, async || {
            let seen = seen.lock().unwrap();
            numbers.clone().all(|n| seen.contains(&(by.to_owned(), n))).then_some(())
        })
        .await;
    };
    let mut first = worker("test");
    mill.put(0..1).await?;
    done("the first job has begun", "test", 0..1).await;
    let mut instance = String::new();
    for url in &urls {
        let worker = listed(url, "its lease is seen", &|one| one["leased"] == 1).await;
        assert_eq!((&worker["state"], &worker["queues"]), (&json!("run"), &json!([QUEUE])));
        assert_eq!(worker["worker"]["pid"], std::process::id());
        instance = worker["worker"]["instance"].as_str().unwrap().to_owned();
    }
    let tell = async |url: &str, verb: &str| {
        let call = http.post(format!("{url}/v1/workers/{instance}/{verb}"));
        assert_eq!(call.send().await.unwrap().status(), 200, "{verb}");
    };

    // Quiet: it takes nothing, although it has room and waits for jobs; another one takes them all.
    tell(&urls[1], "quiet").await;
    listed(&urls[0], "both know", &|one| one["state"] == "quiet").await;
    mill.put(1..21).await?;
    let second = worker("other");
    done("the other one takes what there is", "other", 1..21).await;
    finish.cancel();
    listed(&urls[0], "it has finished what it had", &|one| one["leased"] == 0).await;
    assert_eq!(second.stop().await.succeeded, 20);

    // It may again, and does.
    tell(&urls[0], "resume").await;
    mill.put(21..22).await?;
    done("it goes on", "test", 21..22).await;

    tell(&urls[0], "terminate").await;
    let ended =
        first.task.join_next().await.expect("asked once").expect("no panic").expect("a worker that ran");
    assert_eq!((ended.succeeded, ended.failed, ended.lost, ended.unsent), (2, 0, 0, 0));
    assert_eq!(mill.number("select count(*) from tidemill.failure").await, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_hears_that_its_job_is_cancelled_and_is_not_called_again() -> Result<()> {
    let mill = Mill::start(1).await?;
    // Fails if another test was first.
    drop(rustls::crypto::ring::default_provider().install_default());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (begun, seen) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&heard));
    let count = Arc::clone(&begun);
    let worker = Running::start(mill.builder().concurrency(2).register(move |job: Job<Add>| {
        count.fetch_add(1, Ordering::SeqCst);
        let seen = Arc::clone(&seen);
        async move {
            let reason = job.stop().requested().await;
            seen.lock().unwrap().push((job.args.n, reason));
            // The first one was nearly done; the second one gives up.
            if job.args.n == 0 { Ok(()) } else { Err(Failure::temporary("stopped")) }
        }
    }));
    let options = JobOptions { cancel_key: Some(42), ..JobOptions::default() };
    produce::insert_many(&mill.client, QUEUE, &[Add { n: 0 }, Add { n: 1 }], &options).await?;
    wait_for("both run", PATIENCE, async || (begun.load(Ordering::SeqCst) == 2).then_some(())).await;

    let call = reqwest::Client::new()
        .post(format!("{}/v1/queues/{QUEUE}/cancel", mill.urls()[0]))
        .header("content-type", "application/json")
        .body(json!({"cancel_key": "42", "code": 7}).to_string());
    let said: Value = serde_json::from_str(&call.send().await?.text().await?)?;
    assert_eq!(said, json!({"cancelled": "0", "told": "2"}));
    wait_for("both hear of it", PATIENCE, async || (heard.lock().unwrap().len() == 2).then_some(())).await;
    assert!(heard.lock().unwrap().iter().all(|(_, reason)| *reason == StopReason::Cancelled(7)), "{heard:?}");
    mill.until("the second one ends", "select count(*) from tidemill.cancelling", 0).await;
    let summary = worker.stop().await;
    assert_eq!((summary.succeeded, summary.lost, begun.load(Ordering::SeqCst)), (1, 1, 2));
    assert_eq!(mill.number("select count(*) from tidemill.waiting").await, 0);
    Ok(())
}
