//! Tick and maintain: several tickers, rotation, retries; and those who make it hard for them.

use std::sync::atomic::Ordering;

use rand::Rng;
use rand::rngs::StdRng;

use super::Round;
use super::seat::{Seat, Trouble};

/// A pass of the ticker service: true if it ticked.
pub(super) async fn pass(round: &Round<'_>, seat: &Seat<'_>) -> Result<bool, Trouble> {
    let rows = seat.rows("select problem from tidemill.tick_pass()", &[]).await?;
    for row in &rows {
        if let Some(problem) = row.get::<_, Option<String>>(0) {
            round.fail(format!("tick: {problem}"));
        }
    }
    Ok(!rows.is_empty())
}

/// A ticker: every other one is the service, which skips a queue that is being ticked; the others are PgQ's, which wait.
pub(super) async fn tick(round: &Round<'_>, n: usize) {
    let seat = round.seat("ticker").await;
    while round.goes_on() {
        let ticked = match n % 2 {
            0 => pass(round, &seat).await.map(drop),
            _ => seat.run("select pgq.ticker('q')").await,
        };
        round.expect(ticked);
        // Not faster than consumers read: one that lags holds rotation back.
        round.expect(seat.pause(50).await);
    }
}

/// What somebody holds while tickers come to wait for it.
#[derive(Clone, Copy)]
pub(super) enum Hold {
    /// The queue's tick lock: who comes waits before it takes its snapshot.
    TickLock,
    /// The sequence of tick ids: who comes waits after it took its snapshot, and nobody else may tick meanwhile.
    TickIds,
}

impl Hold {
    pub(super) const ALL: [Self; 2] = [Self::TickLock, Self::TickIds];
}

/// Again and again: waits, with the thing in its hands, until a ticker stands behind it; lets an event be committed,
/// ticks itself, and lets go. Then the ticker behind it must not store what it saw before.
pub(super) async fn hold(round: &Round<'_>, hold: Hold) {
    let (seat, other) = (round.seat("holder").await, round.seat("looker").await);
    while round.goes_on() {
        let held = hold_once(round, &seat, &other, hold).await;
        round.expect(held);
        round.expect(other.pause(40).await);
    }
}

async fn hold_once(round: &Round<'_>, seat: &Seat<'_>, other: &Seat<'_>, hold: Hold) -> Result<(), Trouble> {
    let queue = round.crowd.queue_id;
    let (take, waits, ticks) = match hold {
        Hold::TickLock => (
            format!("begin; select pg_advisory_xact_lock(7465001, {queue})"),
            format!("locktype = 'advisory' and classid = 7465001 and objid = {queue}"),
            "select pgq.ticker('q')",
        ),
        Hold::TickIds => (
            format!("begin; alter sequence pgq.event_{queue}_tick_seq owned by none"),
            format!("relation = 'pgq.event_{queue}_tick_seq'::regclass"),
            "select tidemill.tick_pass()",
        ),
    };
    seat.run(&take).await?;
    let sql = format!("select exists (select from pg_locks where {waits} and not granted)");
    for _ in 0..50 {
        if other.one::<bool>(&sql).await? {
            break;
        }
        other.pause(3).await?;
    }
    let numbers = round.numbers(1);
    other.run(&format!("select pgq.insert_event('q', 't', '{}')", numbers[0])).await?;
    round.ledger.committed(numbers);
    seat.run(&format!("{ticks}; commit")).await
}

/// The last event of a round: its sequence number is ticked before it is committed, and nothing comes after it.
pub(super) async fn straggle(round: &Round<'_>) {
    let (producer, ticker) = (round.seat("straggler").await, round.seat("ticker").await);
    let numbers = round.numbers(1);
    let event = format!("begin; select pgq.insert_event('q', 't', '{}')", numbers[0]);
    round.expect(producer.run(&event).await);
    for _ in 0..100 {
        if round.expect(pass(round, &ticker).await) != Some(true) {
            break;
        }
    }
    round.expect(producer.run("commit").await);
    round.ledger.committed(numbers);
}

/// Rotates as often as it may.
pub(super) async fn rotate(round: &Round<'_>) {
    let seat = round.seat("rotator").await;
    while round.goes_on() {
        let refused = round.expect(seat.one::<Option<String>>("select tidemill.rotate('q')").await);
        if refused == Some(None) {
            round.rotations.fetch_add(1, Ordering::Relaxed);
        }
        round.expect(seat.run("select pgq.maint_rotate_tables_step2()").await);
        round.expect(seat.pause(10).await);
    }
}

/// Puts retried events back.
pub(super) async fn retry(round: &Round<'_>) {
    let seat = round.seat("retrier").await;
    while round.goes_on() {
        round.expect(seat.run("select pgq.maint_retry_events()").await);
        round.expect(seat.pause(20).await);
    }
}

/// Ends a producer's session now and then, whatever it is doing.
pub(super) async fn kill(round: &Round<'_>, mut random: StdRng) {
    let seat = round.seat("killer").await;
    while round.goes_on() {
        let kill = "select pg_terminate_backend(pid) from pg_stat_activity \
                    where application_name = 'producer' and datname = current_database() order by random() limit 1";
        round.expect(seat.run(kill).await);
        round.expect(seat.pause(random.random_range(20..150)).await);
    }
}
