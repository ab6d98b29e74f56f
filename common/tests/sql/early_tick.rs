//! Early ticks: what came in large numbers since the last tick is cut into several, and nothing is lost or doubled.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_postgres::Client;

use crate::support::{all, consume, database, one, queue, run, tick};

/// What `cut_tick` does for a queue with this cap; its own caps are too large for small transactions. In the same
/// statement, but before, the ticker is `busy`.
async fn tick_with_cap(client: &Client, cap: i64, busy: &str) {
    let early = format!(
        "do $$ declare l pgq.tick; begin
             {busy}
             perform pg_advisory_xact_lock(7465001, 1);
             select * into l from pgq.tick where tick_queue = 1 order by tick_id desc limit 1;
             perform tidemill.cut_early_ticks(1, l.tick_snapshot, l.tick_event_seq,
                 pgq.seq_getval('pgq.event_1_id_seq'), {cap}, clock_timestamp());
             perform tidemill.cut_tick(1, pgq.seq_getval('pgq.event_1_id_seq'));
         end $$"
    );
    run(client, &early).await;
}

/// One producer: in a transaction or not.
#[derive(Default)]
struct Producer {
    open: Option<Vec<u32>>,
}

impl Producer {
    /// One random statement; the events that it committed.
    async fn act(&mut self, client: &Client, next: &mut u32, random: &mut StdRng) -> Vec<u32> {
        let Some(mut written) = self.open.take() else {
            run(client, "begin; select txid_current()").await;
            self.open = Some(Vec::new());
            return Vec::new();
        };
        match random.random_range(0..10) {
            0 => {
                run(client, "rollback").await;
                Vec::new()
            }
            1..=3 => {
                run(client, "commit").await;
                written
            }
            _ => {
                let count = if random.random_bool(0.1) { 30 } else { random.random_range(1..6) };
                let events: Vec<u32> = (0..count).map(|n| *next + n).collect();
                *next += count;
                let calls: String =
                    events.iter().map(|n| format!("select pgq.insert_event('q', 't', '{n}'); ")).collect();
                if random.random_bool(0.1) {
                    run(client, &format!("savepoint s; {calls} rollback to s")).await;
                } else {
                    run(client, &calls).await;
                    written.extend(events);
                }
                self.open = Some(written);
                Vec::new()
            }
        }
    }
}

#[tokio::test]
async fn every_event_is_in_exactly_one_batch() {
    let (db, client) = database().await;
    queue(&client).await;
    consume(&client, "q", "c").await;
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut producers = Vec::new();
    for _ in 0..6 {
        producers.push((Producer::default(), db.client().await));
    }
    let (mut next, mut committed, mut cuts) = (0, BTreeSet::new(), 0);
    while cuts < 30 {
        if random.random_bool(0.02) {
            // Sometimes with all of the time used up by other queues: the index is not read then.
            let busy = if cuts % 10 == 9 { "perform pg_sleep(1.01);" } else { "" };
            tick_with_cap(&client, random.random_range(1..40), busy).await;
            cuts += 1;
        } else if random.random_bool(0.002) {
            run(&client, "update pgq.queue set queue_cur_table = (queue_cur_table + 1) % 3, queue_switch_step1 = txid_current()")
                .await;
        }
        let one_of = random.random_range(0..producers.len());
        let (producer, session) = &mut producers[one_of];
        committed.extend(producer.act(session, &mut next, &mut random).await);
    }
    for (producer, session) in &mut producers {
        run(session, "commit").await;
        committed.extend(producer.open.take().unwrap_or_default());
    }
    tick_with_cap(&client, 20, "").await;

    let early: i64 = one(&client, "select count(*) from pgq.tick t where tidemill.is_early_tick(t)").await;
    assert!(early > 15, "only {early} early ticks");
    assert!(one::<bool>(&client, RISING).await, "each tick sees all that the tick before saw");
    let mut seen = BTreeMap::new();
    for event in consume(&client, "q", "c").await.concat() {
        *seen.entry(event.parse::<u32>().expect("a number")).or_insert(0) += 1;
    }
    let expected: BTreeMap<u32, i32> = committed.into_iter().map(|event| (event, 1)).collect();
    assert_eq!(seen, expected);
}

const RISING: &str = "
    select bool_and(b.tick_time >= a.tick_time and b.tick_event_seq >= a.tick_event_seq
                    and txid_snapshot_xmin(b.tick_snapshot) >= txid_snapshot_xmin(a.tick_snapshot)
                    and txid_snapshot_xmax(b.tick_snapshot) >= txid_snapshot_xmax(a.tick_snapshot)
                    and not exists (select 1 from txid_snapshot_xip(b.tick_snapshot) x
                                    where txid_visible_in_snapshot(x, a.tick_snapshot)))
    from pgq.tick a join pgq.tick b on b.tick_queue = a.tick_queue and b.tick_id = a.tick_id + 1";

/// Commits `rows` events in one transaction.
async fn bulk(client: &Client, rows: u32) {
    let sql = format!(
        "insert into pgq.event_1_0 (ev_time, ev_data) select now(), 'd' from generate_series(1, {rows})"
    );
    run(client, &sql).await;
}

#[tokio::test]
async fn a_backlog_becomes_many_ticks_and_a_transaction_stays_whole() {
    let (db, client) = database().await;
    let open = db.client().await;
    for call in ["select count(*) from tidemill.tick_pass()", "select pgq.ticker('q')"] {
        queue(&client).await;
        consume(&client, "q", "c").await;
        run(&open, "begin; select pgq.insert_event('q', 't', 'open')").await;
        for rows in [4000, 4000, 4000, 25_000, 4000, 4000] {
            bulk(&client, rows).await;
        }
        let before: i64 = one(&client, "select max(tick_id) from pgq.tick").await;
        let last: i64 = one(&client, call).await;
        if call.contains("ticker(") {
            assert_eq!(last, one::<i64>(&client, "select max(tick_id) from pgq.tick").await);
        }
        let early: Vec<bool> = all(
            &client,
            &format!(
                "select tidemill.is_early_tick(t) from pgq.tick t where tick_id > {before} order by tick_id"
            ),
        )
        .await;
        // 4000 × 2, 4000, 25,000, 4000 × 2.
        assert_eq!(early, [true, true, true, false]);
        let sequences: Vec<i64> = all(
            &client,
            &format!("select tick_event_seq from pgq.tick where tick_id >= {before} order by tick_id"),
        )
        .await;
        assert!(sequences.is_sorted_by(|a, b| a < b), "{sequences:?}");
        assert_eq!(
            sequences.last(),
            Some(&one(&client, "select pgq.seq_getval('pgq.event_1_id_seq')").await)
        );
        let sizes: Vec<usize> = consume(&client, "q", "c").await.iter().map(Vec::len).collect();
        assert_eq!(sizes, [8000, 4000, 25_000, 8000]);
        run(&open, "commit").await;
        tick(&client).await;
        assert_eq!(consume(&client, "q", "c").await, [["open"]]);
        run(&client, "select pgq.drop_queue('q', true); alter sequence pgq.queue_queue_id_seq restart").await;
    }
}

#[tokio::test]
async fn a_forced_tick_is_one_tick() {
    let (_db, client) = database().await;
    queue(&client).await;
    run(&client, "select pgq.set_queue_config('q', 'ticker_max_count', '100000')").await;
    let last: i64 = one(&client, "select pgq.force_tick('q')").await;
    assert_eq!(tick(&client).await, ["q"]);
    assert_eq!(one::<i64>(&client, "select max(tick_id) from pgq.tick").await, last + 1);
}

#[tokio::test]
async fn no_early_tick_ends_before_the_last_switch_of_tables() {
    let (_db, client) = database().await;
    queue(&client).await;
    for _ in 0..4 {
        bulk(&client, 8000).await;
    }
    run(&client, "update pgq.queue set queue_switch_step1 = txid_current()").await;
    for _ in 0..4 {
        bulk(&client, 8000).await;
    }
    tick(&client).await;
    let sizes: Vec<usize> = consume(&client, "q", "c").await.iter().map(Vec::len).collect();
    // A reader of the real PgQ chooses the table by the switch: nothing is cut below it.
    assert_eq!(sizes, [40_000, 8000, 8000, 8000]);
}
