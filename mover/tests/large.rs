//! One transaction of very many events. In a process of its own, because memory is counted per process.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use support::{Mover, Sizes, World};
use tidemill_mover::PageSize;
use uuid::Uuid;

const EVENTS: i64 = 60_000;
/// Bytes of each.
const CONTENT: i64 = 1_500;

/// The most memory that this process ever had, in bytes.
fn peak() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<i64>().unwrap() * 1024
}

#[tokio::test]
async fn a_transaction_of_60_000_events_needs_memory_for_a_few_pages() {
    let world = World::new(1).await;
    let source = &world.sources[0];
    let table = source.table("ledger").await;
    let sizes = Sizes { page: PageSize { events: 5_000, bytes: 1 << 20 }, ..Sizes::default() };
    let mut mover = Mover::with(&world, "tidemill.mover", Uuid::from_u128(1), sizes);
    // Everything that is needed once: connections, statements, the schema's comparison.
    world.produce_and_tick(10).await;
    mover.finish(&world).await;
    let before = peak();
    let insert = format!(
        "insert into {table}_0 (ev_time, ev_type, ev_data) select now(), i::text, repeat('x', {CONTENT}) \
         from generate_series(1, {EVENTS}) i"
    );
    source.sql.batch_execute(&insert).await.unwrap();
    source.tick("ledger").await;
    mover.finish(&world).await;
    let grown = peak() - before;
    assert!(grown < EVENTS * CONTENT / 4, "{grown} bytes more for {EVENTS} events of {CONTENT} bytes");

    let destination = world.destination.table("ledger").await;
    let sum = |table: &str| {
        format!(
            "select count(*) || ' ' || sum(ev_type::int8 * n) || ' ' || min(length(ev_data)) || ' ' || count(distinct ev_txid)
               from (select *, row_number() over (order by ev_id) as n from {table} where length(ev_data) = {CONTENT}) e"
        )
    };
    let sent: String = source.one(&sum(&table)).await;
    assert_eq!(
        world.destination.one::<String>(&sum(&destination)).await,
        sent,
        "all, in order, in one transaction"
    );
    assert!(sent.starts_with(&format!("{EVENTS} ")) && sent.ends_with(" 1"), "{sent}");
}
