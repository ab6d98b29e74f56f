//! Pages: a range of the log read in pieces is the same as read at once, and each piece costs its own rows.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_postgres::Client;

use crate::support::{database, one, queue, run, tick};

/// What `read_events` and the others have in common: two ticks of queue 1, and the subscription.
#[derive(Clone, Copy)]
struct Range {
    from: i64,
    to: i64,
    sub: i32,
}

/// Id and data of some events.
type Events = Vec<(i64, String)>;

async fn events(client: &Client, sql: &str) -> Events {
    let rows = client.query(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    rows.iter().map(|row| (row.get("ev_id"), row.get("ev_data"))).collect()
}

fn read_events(Range { from, to, sub }: Range, after: Option<i64>, limit: Option<i32>) -> String {
    let text = |n: Option<i64>| n.map_or("null".to_owned(), |n| n.to_string());
    let (after, limit) = (text(after), text(limit.map(i64::from)));
    format!("select * from tidemill.read_events(1, {from}, {to}, {sub}, {after}, {limit})")
}

/// All pages, each in a session that is `changed` before.
async fn pages(client: &Client, range: Range, limit: i32, changed: &str) -> Events {
    let mut all = Events::new();
    loop {
        let after = all.last().map(|(id, _)| *id);
        let page = events(client, &read_events(range, after, Some(limit))).await;
        let complete = page.len() < usize::try_from(limit).expect("positive");
        all.extend(page);
        if complete {
            return all;
        }
        run(client, changed).await;
    }
}

async fn moved(client: &Client, range: Range, limit: i32) -> Events {
    let Range { from, to, sub } = range;
    let mut all = Events::new();
    loop {
        let after = all.last().map_or("null".to_owned(), |(id, _)| id.to_string());
        let sql =
            format!("select * from tidemill.read_move_page(1, {sub}, {from}, {to}, {after}, {limit}, 300)");
        let rows = client.query(&sql, &[]).await.expect("a page");
        all.extend(rows.iter().map(|row| (row.get::<_, i64>("ev_id"), row.get::<_, String>("ev_data"))));
        if rows.last().is_none_or(|row| row.get("o_last")) {
            return all;
        }
    }
}

async fn ahead(client: &Client, range: Range, limit: i32) -> Vec<(i64, i64, String)> {
    let Range { from, to, sub } = range;
    let mut all: Vec<(i64, i64, String)> = Vec::new();
    loop {
        let (txid, id) = all.last().map_or(("null".to_owned(), "null".to_owned()), |(txid, id, _)| {
            (txid.to_string(), id.to_string())
        });
        let sql = format!(
            "select ev_txid, ev_id, ev_data from tidemill.read_ahead(1, {sub}, {from}, {to}, {txid}, {id}, {limit}, 300)"
        );
        let rows = client.query(&sql, &[]).await.expect("a piece");
        if rows.is_empty() {
            return all;
        }
        all.extend(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))));
    }
}

/// Events in all tables: small and large transactions, open ones, ids that go back or are the same, other consumers'.
async fn history(client: &Client, others: &[Client], random: &mut StdRng) {
    for (n, other) in others.iter().enumerate() {
        run(other, "begin").await;
        run(other, &format!("insert into pgq.event_1_1 (ev_time, ev_data) select now(), 'open{n} ' || g from generate_series(1, 20) g"))
            .await;
    }
    for n in 0..60 {
        let table = random.random_range(0..3);
        let rows = if random.random_bool(0.1) { 400 } else { random.random_range(1..10) };
        let (columns, values) = match random.random_range(0..6) {
            // Explicit ids: no two of one transaction are the same.
            0 => ("ev_id,", format!("{} - g * 7,", random.random_range(1000..5000))),
            1 => ("ev_id, ev_owner,", "50 + g, 1,".to_owned()),
            2 => ("ev_owner,", "99,".to_owned()),
            _ => ("", String::new()),
        };
        run(
            client,
            &format!(
                "insert into pgq.event_1_{table} ({columns} ev_time, ev_data)
                 select {values} now(), '{n} ' || g from generate_series(1, {rows}) g"
            ),
        )
        .await;
    }
}

#[tokio::test]
async fn pages_together_are_the_whole() {
    let (db, client) = database().await;
    queue(&client).await;
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let others = [db.client().await, db.client().await];
    let mut range = Range { from: one(&client, "select max(tick_id) from pgq.tick").await, to: 0, sub: 1 };
    // What is open in the first tick has ended in the last, and the other way round.
    history(&client, &others, &mut random).await;
    tick(&client).await;
    for other in &others {
        run(other, "commit").await;
    }
    history(&client, &others, &mut random).await;
    tick(&client).await;
    for other in &others {
        run(other, "commit").await;
    }
    for early in [true, false] {
        range = match early {
            true => Range { to: one(&client, "select max(tick_id) from pgq.tick").await, ..range },
            false => Range { from: range.to - 1, ..range },
        };
        let whole = events(&client, &read_events(range, None, None)).await;
        assert!(whole.len() > 300, "{} events", whole.len());
        assert!(whole.is_sorted_by_key(|(id, _)| *id));
        assert!(whole.iter().all(|(_, data)| !data.is_empty()));
        let half = whole[whole.len() / 2].0;
        let behind: Events = whole.iter().filter(|(id, _)| *id > half).cloned().collect();
        assert_eq!(sorted(events(&client, &read_events(range, Some(half), None)).await), sorted(behind));
        let whole = sorted(whole);
        for limit in [7, 100, 5000] {
            assert_eq!(sorted(pages(&client, range, limit, "").await), whole, "{limit}");
        }
        for changed in ["discard all", "set tidemill.chart_1 = 'nonsense'"] {
            assert_eq!(sorted(pages(&client, range, 200, changed).await), whole, "{changed}");
        }
        assert_eq!(sorted(moved(&client, range, 50).await), whole);
        let pieces = ahead(&client, range, 50).await;
        assert!(pieces.is_sorted_by_key(|(txid, id, _)| (*txid, *id)));
        assert_eq!(sorted(pieces.into_iter().map(|(_, id, data)| (id, data)).collect()), whole);
    }
}

fn sorted(mut events: Events) -> Events {
    events.sort();
    events
}

#[tokio::test]
async fn tables_may_be_rewritten_between_two_pages() {
    let (_db, client) = database().await;
    queue(&client).await;
    let range = Range { from: one(&client, "select max(tick_id) from pgq.tick").await, to: 0, sub: 1 };
    // What was undone leaves holes, which the rewriting closes: everything gets another place.
    let insert = "insert into pgq.event_1_0 (ev_time, ev_data) select now(), repeat('x', 100) from generate_series(1, 3000)";
    run(&client, &format!("begin; {insert}; rollback; {insert}")).await;
    tick(&client).await;
    let range = Range { to: range.from + 1, ..range };
    let first = events(&client, &read_events(range, None, Some(500))).await;
    run(&client, "vacuum full pgq.event_1_0").await;
    let second = events(&client, &read_events(range, Some(first[499].0), Some(5000))).await;
    assert_eq!((first.len(), second.len()), (500, 2500));
}

/// Blocks that a statement touched.
async fn blocks(client: &Client, sql: &str) -> u64 {
    let plan: serde_json::Value =
        one(client, &format!("explain (analyze, buffers, format json) {sql}")).await;
    let count = |name: &str| plan[0]["Plan"][name].as_u64().expect("a number");
    count("Shared Hit Blocks") + count("Shared Read Blocks")
}

/// The lower number of two runs: other sessions' changes of the catalog may make one of them read it again.
async fn blocks_at_best(client: &Client, sql: &str) -> u64 {
    blocks(client, sql).await.min(blocks(client, sql).await)
}

#[tokio::test]
async fn a_page_of_one_large_transaction_costs_its_own_rows() {
    let (_db, client) = database().await;
    queue(&client).await;
    let from: i64 = one(&client, "select max(tick_id) from pgq.tick").await;
    run(&client, "insert into pgq.event_1_0 (ev_time, ev_data) select now(), repeat('x', 100) from generate_series(1, 200000)")
        .await;
    tick(&client).await;
    let range = Range { from, to: from + 1, sub: 1 };
    // The first page reads the whole.
    let whole = blocks(&client, &read_events(range, None, Some(1000))).await;
    for after in [1000, 100_000, 198_000] {
        let page = blocks_at_best(&client, &read_events(range, Some(after), Some(1000))).await;
        assert!(page * 20 < whole, "{page} blocks for a page after {after}, {whole} for all");
    }
    let txid: i64 = one(&client, "select ev_txid from pgq.event_1_0 limit 1").await;
    let piece = |after: i64| {
        format!(
            "select * from tidemill.read_ahead(1, 1, {from}, {from} + 1, {txid}, {after}, 1000, 10000000)"
        )
    };
    blocks(&client, &piece(1000)).await;
    for after in [2000, 100_000, 198_000] {
        let page = blocks_at_best(&client, &piece(after)).await;
        assert!(page * 20 < whole, "{page} blocks for a piece after {after}, {whole} for all");
    }
}
