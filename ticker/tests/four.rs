//! Four tickers and two callers of PgQ's own function at once: ticks never go back.

mod support;

use std::time::Duration;

use futures_util::future::join_all;
use support::{Ticker, number, run};
use tidemill_common::service::{Shutdown, Step};
use tidemill_common::testing::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_tickers_and_pgqd_never_invert_ticks() {
    let db = Cluster::shared().database().await;
    let client = db.client().await;
    run(&client, "select pgq.create_queue('q'); update pgq.queue set queue_ticker_max_count = 1").await;
    // Each gives its term up all the time, so that the four take turns and overtake each other.
    let done = Shutdown::new();
    let tickers: Vec<_> = (0..4)
        .map(|_| {
            let (mut ticker, done) = (Ticker::new(&db, Duration::from_millis(15)), done.clone());
            async move {
                while !done.is_wanted() {
                    for _ in 0..5 {
                        ticker.tick.step().await.expect("a pass");
                    }
                    ticker.database.release().await;
                    tokio::task::yield_now().await;
                }
            }
        })
        .collect();
    let mut callers = Vec::new();
    for _ in 0..2 {
        let caller = db.client().await;
        callers.push(async move {
            for _ in 0..150 {
                run(&caller, "select pgq.ticker()").await;
            }
        });
    }
    let mut producers = Vec::new();
    for n in 0..4 {
        let producer = db.client().await;
        producers.push(async move {
            for m in 0..150 {
                // Every third one stays open over several ticks, or is given up.
                let end = if m % 7 == 0 { "rollback" } else { "commit" };
                run(&producer, &format!("begin; select pgq.insert_event('q', '{n}', '{m}')")).await;
                if m % 3 == 0 {
                    run(&producer, "select txid_current()").await;
                }
                run(&producer, end).await;
            }
        });
    }
    let work = async {
        tokio::join!(join_all(callers), join_all(producers));
        done.begin();
    };
    tokio::join!(join_all(tickers), work);
    let inverted = "select count(*) from (
            select tick_id, tick_snapshot, tick_event_seq,
                   lag(tick_snapshot) over w as before, lag(tick_event_seq) over w as seq_before
            from pgq.tick window w as (order by tick_id)) t
        where txid_snapshot_xmax(tick_snapshot) < txid_snapshot_xmax(before)
           or txid_snapshot_xmin(tick_snapshot) < txid_snapshot_xmin(before)
           or tick_event_seq < seq_before
           or exists (select 1 from txid_snapshot_xip(tick_snapshot) x where txid_visible_in_snapshot(x, before))";
    assert_eq!(number(&client, inverted).await, 0);
    assert!(number(&client, "select epoch from tidemill.ticker_term").await > 4, "they did take turns");
    assert!(number(&client, "select count(*) from pgq.tick").await > 20);
    // And every event is in exactly one batch: visible in a tick and not in the one before.
    run(&client, "select * from tidemill.tick_pass()").await;
    let batches = "select count(*) from (
            select e.ev_id from pgq.event_1 e join (
                select tick_snapshot, lag(tick_snapshot) over (order by tick_id) as before from pgq.tick) t
            on txid_visible_in_snapshot(e.ev_txid, t.tick_snapshot) and not txid_visible_in_snapshot(e.ev_txid, t.before)
            group by e.ev_id having count(*) = 1) x";
    let events = number(&client, "select count(*) from pgq.event_1").await;
    assert_eq!(number(&client, batches).await, events);
    assert_eq!(events, 4 * (150 - 22));
}
