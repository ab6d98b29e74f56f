//! Everybody at once: producers of all kinds, tickers, consumers, rotation. Every event is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;
use tokio_postgres::Client;

use crate::support::{alone, consume, one, queue, run, tick};

/// How long the crowd works: at least so long, and until there were some rotations.
const WORK: Duration = Duration::from_secs(6);
const WORK_AT_MOST: Duration = Duration::from_secs(20);
const ROTATIONS: u64 = 6;

/// What producers know of their events.
#[derive(Default)]
struct Ledger {
    next: AtomicU64,
    committed: Mutex<BTreeSet<u64>>,
    undone: Mutex<BTreeSet<u64>>,
}

impl Ledger {
    fn take(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn settle(set: &Mutex<BTreeSet<u64>>, numbers: Vec<u64>) {
        set.lock().expect("no test thread panicked").extend(numbers);
    }
}

fn inserts(numbers: &[u64]) -> String {
    numbers.iter().map(|n| format!("select pgq.insert_event('q', 't', '{n}'); ")).collect()
}

/// One random transaction.
async fn produce(client: &Client, other: &Client, ledger: &Ledger, random: &mut StdRng) {
    let numbers: Vec<u64> = (0..random.random_range(1..5)).map(|_| ledger.take()).collect();
    let values = numbers.iter().map(|n| format!("(now(), 't', '{n}')")).collect::<Vec<_>>().join(", ");
    match random.random_range(0..7) {
        0 => {
            run(client, &format!("begin; {} rollback", inserts(&numbers))).await;
            return Ledger::settle(&ledger.undone, numbers);
        }
        1 => {
            let undone: Vec<u64> = (0..2).map(|_| ledger.take()).collect();
            run(
                client,
                &format!(
                    "begin; savepoint s; {} rollback to s; {} commit",
                    inserts(&undone),
                    inserts(&numbers)
                ),
            )
            .await;
            Ledger::settle(&ledger.undone, undone);
        }
        2 => {
            // A slow one, over several ticks and maybe rotations.
            run(client, &format!("begin; {}", inserts(&numbers))).await;
            for _ in 0..random.random_range(1..10) {
                run(other, "select pg_sleep(0.02)").await;
            }
            run(client, "commit").await;
        }
        3 => {
            // A direct writer: the transaction id first, then the table's name, in one transaction.
            run(client, "begin").await;
            let table: String = one(client, "select pgq.current_event_table('q')").await;
            run(client, &format!("insert into {table} (ev_time, ev_type, ev_data) values {values}; commit"))
                .await;
        }
        4 => {
            // One with a name from another transaction, which rotation may have made stale.
            let table: String = one(client, "select pgq.current_event_table('q')").await;
            for _ in 0..random.random_range(0..20) {
                run(other, "select pg_sleep(0.01)").await;
            }
            run(client, &format!("insert into {table} (ev_time, ev_type, ev_data) values {values}")).await;
        }
        5 => {
            // One whose snapshot, and so whose table name, is old.
            run(client, "begin isolation level repeatable read; select 1").await;
            run(other, "select pg_sleep(0.05)").await;
            run(client, &format!("{} commit", inserts(&numbers))).await;
        }
        _ => run(client, &format!("begin; {} commit", inserts(&numbers))).await,
    }
    Ledger::settle(&ledger.committed, numbers);
}

/// Reads batches, sometimes twice, sometimes retries an event; what was delivered, with its retry count.
async fn read(client: &Client, name: &str, random: &mut StdRng, seen: &mut Vec<(u64, i32)>) {
    let next = format!("select pgq.next_batch('q', '{name}')");
    let Some(batch) = one::<Option<i64>>(client, &next).await else { return };
    let sql = "select ev_id, ev_data, coalesce(ev_retry, 0) from pgq.get_batch_events($1)";
    let events = client.query(sql, &[&batch]).await.expect("a batch");
    if random.random_bool(0.1) {
        let again = client.query(sql, &[&batch]).await.expect("the same batch");
        assert_eq!(again.len(), events.len());
    }
    let mut last = None;
    for event in &events {
        let (id, data, retry): (i64, String, i32) = (event.get(0), event.get(1), event.get(2));
        assert!(last.is_none_or(|last| last <= id), "a batch is in order of event ids");
        last = Some(id);
        if retry == 0 && random.random_bool(0.02) {
            run(client, &format!("select pgq.event_retry({batch}, {id}, 0)")).await;
        }
        seen.push((data.parse().expect("a number"), retry));
    }
    assert_eq!(one::<i32>(client, &format!("select pgq.finish_batch({batch})")).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_is_delivered_exactly_once() {
    let (db, client, _turn) = alone().await;
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    queue(&client).await;
    run(&client, "select pgq.register_consumer('q', 'd'); select pgq.set_queue_config('q', 'rotation_period', '0.1 seconds')").await;

    let ledger = Ledger::default();
    let stop = AtomicBool::new(false);
    let begun = Instant::now();
    let rotations = AtomicU64::new(0);
    let goes_on = || {
        begun.elapsed() < WORK
            || (rotations.load(Ordering::Relaxed) < ROTATIONS && begun.elapsed() < WORK_AT_MOST)
    };
    let random = |n: u64| StdRng::seed_from_u64(seed + n);

    let producers = async {
        let mut all = Vec::new();
        for n in 0..6 {
            let (a, b, mut random, ledger, goes_on) =
                (db.client().await, db.client().await, random(n), &ledger, &goes_on);
            all.push(async move {
                while goes_on() {
                    produce(&a, &b, ledger, &mut random).await;
                }
            });
        }
        futures_util::future::join_all(all).await;
        stop.store(true, Ordering::Release);
    };
    let tickers = async {
        let mut all = Vec::new();
        for _ in 0..3 {
            let (a, stop) = (db.client().await, &stop);
            all.push(async move {
                while !stop.load(Ordering::Acquire) {
                    tick(&a).await;
                    run(&a, "select pgq.maint_retry_events()").await;
                }
            });
        }
        futures_util::future::join_all(all).await;
    };
    let rotation = async {
        let a = db.client().await;
        while !stop.load(Ordering::Acquire) {
            if one::<Option<String>>(&a, "select tidemill.rotate('q')").await.is_none() {
                rotations.fetch_add(1, Ordering::Relaxed);
            }
            run(&a, "select pgq.maint_rotate_tables_step2()").await;
            run(&a, "select pg_sleep(0.02)").await;
        }
    };
    let consumers = async {
        let mut all = Vec::new();
        for (n, name) in ["c", "d"].into_iter().enumerate() {
            let (a, mut random, stop) = (db.client().await, random(100 + n as u64), &stop);
            all.push(async move {
                let mut seen = Vec::new();
                while !stop.load(Ordering::Acquire) {
                    read(&a, name, &mut random, &mut seen).await;
                }
                (name, seen)
            });
        }
        futures_util::future::join_all(all).await
    };
    let ((), (), (), read) = tokio::join!(producers, tickers, rotation, consumers);

    let committed = ledger.committed.into_inner().expect("settled");
    let undone = ledger.undone.into_inner().expect("settled");
    assert!(committed.len() > 1000, "only {} events", committed.len());
    let rotations = rotations.load(Ordering::Relaxed);
    println!("{} events, {} rolled back, {rotations} rotations", committed.len(), undone.len());
    assert!(rotations > 0, "no rotation");
    for (name, mut seen) in read {
        // The rest, and what is still to be retried.
        for _ in 0..4 {
            run(&client, "select pgq.maint_retry_events()").await;
            tick(&client).await;
            seen.extend(rest(&client, name).await);
        }
        let mut first = BTreeMap::<u64, u32>::new();
        for (number, _) in seen.iter().filter(|(_, retry)| *retry == 0) {
            *first.entry(*number).or_default() += 1;
        }
        let twice: Vec<_> = first.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "{name}: delivered twice: {twice:?}");
        let delivered: BTreeSet<u64> = first.into_keys().collect();
        let lost: Vec<_> = committed.difference(&delivered).collect();
        assert!(lost.is_empty(), "{name}: lost: {lost:?}");
        let invented: Vec<_> = delivered.difference(&committed).collect();
        assert!(invented.is_empty(), "{name}: of rolled back transactions: {invented:?}");
        assert!(delivered.is_disjoint(&undone));
        let mut retried: Vec<_> = seen.iter().filter(|(_, retry)| *retry == 1).collect();
        let count = retried.len();
        retried.sort();
        retried.dedup();
        assert_eq!(retried.len(), count, "{name}: a retried event came twice");
    }
    assert_eq!(one::<i64>(&client, "select count(*) from pgq.retry_queue").await, 0);
    assert!(consume(&client, "q", "c").await.is_empty());
}

/// All batches to the last tick.
async fn rest(client: &Client, name: &str) -> Vec<(u64, i32)> {
    let mut seen = Vec::new();
    let mut random = StdRng::seed_from_u64(0);
    while one::<Option<i64>>(client, &format!("select pgq.next_batch('q', '{name}')")).await.is_some() {
        read(client, name, &mut random, &mut seen).await;
    }
    seen
}
